"""Data sets in files. `read` tells the format from the path, reads everything and checks it."""

from pathlib import Path

from gancore.data.dataset import DataError, Dataset
from gancore.data.formats import arrays, cifar, idx, images
from gancore.data.formats.common import resized

EXPECTED = "expected a folder of images, IDX files (MNIST), CIFAR-10 binaries, or a .npy or .npz file"


def read(path: Path, size: int | None = None) -> Dataset:
    """The data set in the file or folder `path`, images resized to `size` pixels a side.

    Raises DataError with the file, its defect and what was expected.
    """
    try:
        dataset = _folder(path, size) if path.is_dir() else _file(path)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read, {error.strerror or error}") from None
    return resized(dataset, size) if size is not None else dataset


def _folder(path: Path, size: int | None) -> Dataset:
    found = [entry.name for entry in path.iterdir()]
    if any("-idx" in name or ".idx" in name for name in found):
        return idx.read_folder(path)
    if any(name.startswith("data_batch_") and name.endswith(".bin") for name in found):
        return cifar.read_folder(path)
    return images.read_folder(path, size)


def _file(path: Path) -> Dataset:
    if path.suffix in (".npy", ".npz"):
        return arrays.read(path)
    if path.suffix == ".bin":
        return cifar.read_file(path)
    with open(path, "rb") as file:
        magic = file.read(2)
    if magic in (b"\x1f\x8b", b"\0\0") or "idx" in path.name:
        return idx.read_file(path)
    raise DataError(f"{path}: format not known; {EXPECTED}")
