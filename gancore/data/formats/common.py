"""What the formats share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gancore.data.dataset import DataError, Dataset


def labels(path: Path, y: np.ndarray[Any, Any], count: int) -> Tensor:
    """Labels (N,) int64 out of an integer array of `count` entries. Raises DataError, naming `path`, for anything else."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{path}: labels of type {y.dtype} and shape {y.shape}, expected integers (N,)")
    if len(y) != count:
        raise DataError(f"{path}: {len(y)} labels for {count} samples, expected equally many")
    if len(y) and y.min() < 0:
        raise DataError(f"{path}: label {y.min()}, expected 0 and above")
    return torch.from_numpy(y.astype(np.int64))


def with_classes(dataset: Dataset) -> Dataset:
    """The same data with `classes` counted from the labels of both splits."""
    splits = [split for split in (dataset, dataset.held_out) if split is not None and "y" in split.fields]
    classes = max((int(split.fields["y"].max()) + 1 for split in splits), default=0)
    held_out = dataset.held_out
    if held_out is not None and "y" in held_out.fields:
        held_out = replace(held_out, classes=classes)
    return replace(dataset, classes=classes if "y" in dataset.fields else 0, held_out=held_out)


def resized(dataset: Dataset, size: int) -> Dataset:
    """Images x resampled to `size` pixels a side, antialiased. Raises DataError where x are no images or `size` is below 1."""
    if not dataset.is_image:
        raise DataError(f"{dataset.name}: samples of shape {dataset.shape} are no images and have no size {size}")
    if size < 1:
        raise DataError(f"{dataset.name}: no size {size}, expected at least 1")
    x = dataset.fields["x"]
    if x.shape[2:] != (size, size):
        # In pieces: the float copy of a whole set would take four times its memory.
        pieces = [F.interpolate(p.float(), (size, size), mode="bilinear", antialias=True) for p in x.split(1024)]
        if x.dtype == torch.uint8:
            pieces = [piece.round().clamp(0, 255).to(torch.uint8) for piece in pieces]
        x = torch.cat(pieces)
    return replace(dataset, fields={**dataset.fields, "x": x}, held_out=dataset.held_out and resized(dataset.held_out, size))
