"""Numpy files: an array of samples, or an archive with `x` and perhaps `y` and further columns."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancore.data.dataset import DataError, Dataset
from gancore.data.formats.common import labels, with_classes

Array = np.ndarray[Any, Any]


def read(path: Path) -> Dataset:
    """The samples in a .npy file, or the columns of a .npz file.

    x is uint8 or floating; images are (N, C, H, W), (N, H, W, C) or, as uint8, (N, H, W), square, floats in [-1, 1]; anything
    else is kept as it is, as float32. An archive may hold a test split: the names x_train, y_train, x_test, y_test are understood.
    """
    columns = _columns(path)
    names = {key: key.removesuffix("_train") for key in columns}
    train = {names[key]: value for key, value in columns.items() if not key.endswith("_test")}
    test = {key.removesuffix("_test"): value for key, value in columns.items() if key.endswith("_test")}
    if "x" not in train:
        raise DataError(f"{path}: no array 'x', found {', '.join(sorted(columns)) or 'none'}")
    held_out = _dataset(path, f"{path.name} held out", test) if "x" in test else None
    dataset = _dataset(path, path.name, train)
    return with_classes(Dataset(path.name, dataset.fields, held_out=held_out))


def _columns(path: Path) -> dict[str, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"x": found}
        with found:
            return {key: found[key] for key in found.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise DataError(f"{path}: not a numpy file, or one of Python objects, expected arrays of numbers") from None
        raise DataError(f"{path}: truncated or corrupt numpy file ({' '.join(str(error).split())})") from None


def _dataset(path: Path, name: str, columns: dict[str, Array]) -> Dataset:
    count = len(columns["x"]) if columns["x"].ndim else 0
    if not count:
        raise DataError(f"{path}: array 'x' of shape {columns['x'].shape} is empty, expected at least one sample")
    fields = {}
    for key, value in columns.items():
        fields[key] = labels(path, value, count) if key == "y" else _samples(path, key, value)
        if len(fields[key]) != count:
            raise DataError(f"{path}: array {key!r} has {len(value)} rows, expected {count} as 'x' has")
    return Dataset(name, fields)


def _samples(path: Path, key: str, value: Array) -> Tensor:
    if value.dtype.kind == "f":
        if not np.isfinite(value).all():
            raise DataError(f"{path}: array {key!r} has values that are not finite")
        value = value.astype(np.float32)
    elif value.dtype != np.uint8:
        raise DataError(f"{path}: array {key!r} of type {value.dtype}, expected uint8 or floating numbers")
    if value.ndim == 4:
        value = _images(path, key, value)
    elif value.ndim == 1 or (value.ndim == 3 and value.dtype == np.uint8 and value.shape[1] == value.shape[2]):
        value = value[:, None]
    return torch.from_numpy(np.array(value, order="C"))


def _images(path: Path, key: str, value: Array) -> Array:
    channels = (1, 2, 3, 4)
    first = value.shape[1] in channels and value.shape[2] == value.shape[3]
    last = value.shape[3] in channels and value.shape[1] == value.shape[2]
    if first == last:
        what = "could be either order of channels" if first else "has no square images of 1 to 4 channels"
        raise DataError(f"{path}: array {key!r} of shape {value.shape} {what}, expected (N, C, H, H) or (N, H, H, C)")
    low, high = float(value.min()), float(value.max())
    if value.dtype != np.uint8 and max(-low, high) > 1 + 1e-4:
        raise DataError(f"{path}: array {key!r} has pixels in [{low:g}, {high:g}], expected floats in [-1, 1], or uint8")
    return value if first else value.transpose(0, 3, 1, 2)
