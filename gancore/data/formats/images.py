"""Folders of image files, flat or with one subfolder for each class."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gancore.data.dataset import DataError, Dataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
GREY = ("1", "L", "LA")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: the camera was held upright

T = TypeVar("T")


def read_folder(path: Path, size: int | None = None) -> Dataset:
    """Images x (N, C, S, S) uint8, C = 1 if all are grey, else 3; y the index of the subfolder, in sorted order, if there are any.

    With `size`, S = size: each image is cropped to its central square and resampled. Without, all must be squares of one size.
    """
    flat = _images_in(path, recursive=False)
    groups = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    found = [_images_in(group, recursive=True) for group in groups]
    if flat and any(found):
        raise DataError(f"{path}: images both beside and inside of subfolders, expected one or the other")
    if not flat and not any(found):
        raise DataError(f"{path}: no images, expected files ending in {' '.join(SUFFIXES)}, here or in one folder for each class")
    if flat:
        return Dataset(path.name, {"x": _decode(flat, size)})
    for group, files in zip(groups, found, strict=True):
        if not files:
            raise DataError(f"{group}: no images, expected each subfolder to hold those of one class")
    y = torch.repeat_interleave(torch.tensor([len(files) for files in found]))
    return Dataset(path.name, {"x": _decode([file for files in found for file in files], size), "y": y}, len(groups))


def _images_in(folder: Path, recursive: bool) -> list[Path]:
    entries = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(e for e in entries if e.suffix.lower() in SUFFIXES and not e.name.startswith(".") and e.is_file())


def _decode(files: Sequence[Path], size: int | None) -> Tensor:
    if size is not None and size < 1:
        raise DataError(f"{files[0].parent}: no size {size}, expected at least 1")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        heads = list(pool.map(_head, files))
        side = size or heads[0][1][0]
        if size is None:
            for file, (_, shape) in zip(files, heads, strict=True):
                if shape != (side, side):
                    what = f"{shape[0]} x {shape[1]} pixels, {files[0].name} {side} wide"
                    raise DataError(f"{file}: {what}, expected squares of one size; the option size crops and scales")
        channels = 1 if all(mode in GREY for mode, _ in heads) else 3
        _check_memory(files[0].parent, len(files) * channels * side**2)
        x = torch.empty(len(files), channels, side, side, dtype=torch.uint8)
        for row, image in zip(x, pool.map(partial(_pixels, grey=channels == 1, size=size), files), strict=True):
            row.copy_(image)
    return x


def _check_memory(folder: Path, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise DataError(f"{folder}: {needed / 2**30:.0f} GiB of pixels, expected at most the {memory / 2**30:.0f} GiB of memory")


def _pillow(file: Path, use: Callable[[Any], T]) -> T:
    try:
        from PIL import Image
    except ImportError:
        raise DataError(f'{file}: reading images needs pillow, which is missing; pip install "gancore[train]"') from None
    try:
        with Image.open(file) as image:
            return use(image)
    except Exception as error:  # Pillow's readers raise whatever their format runs into: OSError, SyntaxError, struct.error
        raise DataError(f"{file}: truncated, corrupt or not an image ({' '.join(str(error).split())})") from None


def _head(file: Path) -> tuple[str, tuple[int, int]]:
    mode, size, turn = _pillow(file, lambda image: (image.mode, image.size, image.getexif().get(ORIENTATION, 1)))
    if mode not in MODES:
        raise DataError(f"{file}: pixels of mode {mode}, expected 8 bits for each channel")
    return mode, size[::-1] if turn in SIDEWAYS else size


def _pixels(file: Path, grey: bool, size: int | None) -> Tensor:
    from PIL import Image, ImageOps

    image = _pillow(file, lambda image: ImageOps.exif_transpose(image).convert("L" if grey else "RGB"))
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if grey else pixels.permute(2, 0, 1)
