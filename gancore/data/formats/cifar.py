"""CIFAR-10 in its binary version: records of a label byte and 3 x 32 x 32 pixels (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancore.data.dataset import DataError, Dataset

RECORD = 1 + 3 * 32 * 32
CLASSES = 10


def _records(path: Path) -> dict[str, Tensor]:
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % RECORD:
        raise DataError(f"{path}: truncated or no CIFAR-10 batch, {len(content)} bytes, expected a multiple of {RECORD}")
    records = torch.from_numpy(content).view(-1, RECORD)
    y = records[:, 0].long()
    wrong = (y >= CLASSES).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise DataError(f"{path}: corrupt, record {at} has label {int(y[at])}, expected 0..{CLASSES - 1}")
    return {"x": records[:, 1:].reshape(-1, 3, 32, 32), "y": y}


def read_file(path: Path) -> Dataset:
    """One batch: x (N, 3, 32, 32) uint8, y (N,)."""
    return Dataset(path.name, _records(path), CLASSES)


def read_folder(path: Path) -> Dataset:
    """The batches data_batch_1.bin to data_batch_5.bin of the folder `path`, and test_batch.bin as `held_out` if it is there."""
    files = [path / f"data_batch_{i}.bin" for i in range(1, 6)]
    for file in files:
        if not file.exists():
            raise DataError(f"{file}: missing, expected data_batch_1.bin to data_batch_5.bin")
    batches = [_records(file) for file in files]
    test = path / "test_batch.bin"
    held_out = Dataset(f"{path.name} held out", _records(test), CLASSES) if test.exists() else None
    return Dataset(path.name, {key: torch.cat([b[key] for b in batches]) for key in ("x", "y")}, CLASSES, held_out)
