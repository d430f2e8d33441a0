"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed by gzip.

Two zero bytes, a byte for the type (8: uint8), a byte for the number of dimensions, each dimension as four bytes, most
significant first, then the values (http://yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancore.data.dataset import DataError, Dataset
from gancore.data.formats.common import labels, with_classes


def read_array(path: Path, dimensions: int) -> np.ndarray[Any, Any]:
    """The uint8 array of `dimensions` dimensions in the file `path`. Raises DataError if there is none, or not a whole one."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: truncated or corrupt gzip data ({error})") from None
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path}: starts with 0x{content[:4].hex()}, expected an IDX header 0x0000080{dimensions}")
    if content[2] != 8 or content[3] != dimensions:
        kind = f"type 0x{content[2]:02x} with {content[3]} dimensions"
        raise DataError(f"{path}: {kind}, expected type 0x08 (uint8) with {dimensions} dimensions")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise DataError(f"{path}: truncated, {len(content)} bytes, expected a header of {header}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise DataError(f"{path}: truncated or corrupt, {len(content) - header} values, expected {sizes} = {math.prod(shape)}")
    if not math.prod(shape):
        raise DataError(f"{path}: empty, expected at least one value")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _pair(images: Path, label_file: Path | None, name: str) -> Dataset:
    x = read_array(images, 3)
    if x.shape[1] != x.shape[2]:
        raise DataError(f"{images}: images of {x.shape[1]} x {x.shape[2]} pixels, expected squares")
    fields = {"x": torch.from_numpy(x.copy())[:, None]}
    if label_file is not None:
        fields["y"] = labels(label_file, read_array(label_file, 1), len(x))
    return Dataset(name, fields)


def _find(folder: Path, part: str, content: str) -> Path | None:
    stems = [f"{part}-{content}{mark}ubyte" for mark in ("-idx3-", ".idx3-", "-idx1-", ".idx1-")]
    return next((folder / f"{s}{end}" for s in stems for end in ("", ".gz") if (folder / f"{s}{end}").exists()), None)


def read_folder(path: Path) -> Dataset:
    """The training files in the folder `path`, x (N, 1, H, W) uint8 and y, and the t10k files as `held_out` if they are there."""
    images, label_file = _find(path, "train", "images"), _find(path, "train", "labels")
    for file, name in ((images, "train-images-idx3-ubyte"), (label_file, "train-labels-idx1-ubyte")):
        if file is None:
            raise DataError(f"{path}: no file {name}, plain or .gz, expected beside the other IDX files")
    assert images is not None
    dataset = _pair(images, label_file, path.name)
    images, label_file = _find(path, "t10k", "images"), _find(path, "t10k", "labels")
    if images is None:
        return with_classes(dataset)
    held_out = _pair(images, label_file, f"{path.name} held out")
    return with_classes(Dataset(path.name, dataset.fields, held_out=held_out))


def read_file(path: Path) -> Dataset:
    """The images in the file `path`, with the labels that lie beside it under the customary name, if they do."""
    stem = path.name.replace("images", "labels").replace("idx3", "idx1")
    beside = path.with_name(stem)
    found = beside if stem != path.name and beside.exists() else None
    return with_classes(_pair(path, found, path.name))
