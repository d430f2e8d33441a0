"""Kernel sums on a GPU: sizes of tiles, such that nothing spills, and the precisions that a machine's matrix products know."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _tiles, _triton
from gancore.kernels.kernel_sums.form import Form
from gancore.kernels.kernel_sums.kernel import ABSOLUTE

# AMD has matrix units for float32 itself, and TF32 on one generation alone.
_NVIDIA = {"highest": "ieee", "high": "tf32x3", "medium": "tf32", "brief": "tf32"}
_AMD = {"highest": "ieee", "high": "ieee", "medium": "bf16x3", "brief": "ieee"}


class Sizes(NamedTuple):
    """A program's rows and columns of pairs, its chunk of the features, warps, stages of its pipeline, and Triton's name of the
    precision. columns: of the weights or features that it sums for."""

    rows: int
    cols: int
    chunk: int
    columns: int
    warps: int
    stages: int
    precision: str


SMALL = Sizes(32, 32, 64, 64, 4, 1, "ieee")  # of the interpreter, whose time goes by the operation


def precision_of(form: Form) -> str:
    """Triton's name, on this machine's GPUs, for the precision of a product."""
    return (_AMD if torch.version.hip else _NVIDIA)[form.precision]


def on_chip(form: Form, features: int) -> bool:
    """Whether a program can keep the sums of its rows. Products of float32 throughout take too many registers."""
    most = 16 if _triton.INTERPRETED else 128
    return form.metric != ABSOLUTE and features <= most and (_triton.INTERPRETED or precision_of(form) != "ieee")


# Rows and columns of pairs, chunk of the features, and columns summed for, of float32 and of bfloat16. Eight warps: with four, or
# with tiles one size larger, some target spills.
_TABLE = {
    "values0": ((64, 32, 32, 64), (64, 32, 32, 64)),
    "values2": ((64, 32, 32, 64), (64, 32, 32, 64)),
    "rows": ((64, 32, 32, 0), (64, 32, 32, 0)),
    "tiles1": ((64, 64, 32, 0), (64, 64, 64, 0)),
    "tiles2": ((64, 32, 32, 0), (64, 32, 64, 0)),
    "gather1": ((64, 32, 0, 64), (128, 64, 0, 128)),
    "gather2": ((64, 32, 0, 64), (64, 64, 0, 64)),
    "numbers": ((64, 32, 32, 0), (64, 32, 32, 0)),
}


def _fits(tile: _tiles.Tile, size: int) -> bool:
    """Of pairs: a thread has no more than with the largest tile above, and chunks leave room for as many of tangents."""
    rows, cols = tile["rows"], tile["cols"]
    pairs = rows * cols // (32 * tile["warps"])
    return cols <= rows and rows * cols >= 1024 and pairs <= 16 and 2 * tile["chunk"] * (rows + cols) * size <= 3 << 14


def _fits_gather(tile: _tiles.Tile, size: int, tangents: bool) -> bool:
    """Sums by rows and columns; tangents take twice the registers and memory."""
    rows, columns = tile["rows"], tile["columns"]
    sums, shared = rows * columns // (32 * tile["warps"]), tile["stages"] * tile["cols"] * (rows + columns) * size
    return 16 <= sums <= (64 if tangents else 128) // size and shared <= 3 << (14 if tangents else 15)


_CLASS = ("precision", "metric", "terms", "width", "features", "rows", "others")
_PAIRS = {"rows": (32, 64, 128), "cols": (16, 32, 64), "chunk": (16, 32, 64), "warps": (4, 8)}
_OWNED = {**_PAIRS, "rows": (32, 64), "warps": (8,)}  # beside the pairs its rows' sums over all features lie in registers
_GATHER = {"rows": (64, 128), "cols": (32, 64), "columns": (64, 128), "warps": (4, 8), "stages": (2, 3)}
_TILED = {
    **{
        name: _tiles.tiled(f"kernel_sums.{name}", _CLASS, _fits, **(_OWNED if name == "rows" else _PAIRS))
        for name in ("values0", "values2", "rows", "tiles1", "tiles2", "numbers")
    },
    "gather1": _tiles.tiled("kernel_sums.gather1", _CLASS, lambda tile, size: _fits_gather(tile, size, False), **_GATHER),
    "gather2": _tiles.tiled("kernel_sums.gather2", _CLASS, lambda tile, size: _fits_gather(tile, size, True), **_GATHER),
}


def of(kernel: str, form: Form, width: int, features: int, counts: tuple[int, int], like: Tensor) -> Sizes:
    """kernel: a key of the table. width: columns of weights. counts: rows of both sides, padded."""
    unit, precision = math.gcd(*counts), precision_of(form)
    usual = _usual(kernel, precision, like)
    found: Sizes = _TILED[kernel].of(like, usual, precision, form.metric, len(form.codes), width, features, *counts)
    rows = min(found.rows, unit)
    return found._replace(rows=rows, cols=min(found.cols, rows), chunk=min(features, found.chunk))


def _usual(kernel: str, precision: str, like: Tensor) -> Sizes:
    if _triton.INTERPRETED:
        return SMALL._replace(precision=precision)
    brief = like.dtype == torch.bfloat16
    rows, cols, chunk, columns = _TABLE[kernel][brief]
    if precision == "ieee" and not brief:
        chunk = min(chunk, 16)
    if torch.version.hip:
        cols = 16 if cols == 32 and "gather" not in kernel else cols  # 32 spill scalar registers
    elif kernel == "rows" and not brief and torch.cuda.get_device_capability(like.device)[0] < 9:
        cols = 16  # fragments of both operands lie in registers there, thrice for 3xTF32
    return Sizes(rows, cols, chunk, columns, 8, 3 if "gather" in kernel else 2, precision)


def unit(count: int) -> int:
    """A multiple of this many rows stands for `count`."""
    if _triton.INTERPRETED:
        return SMALL.rows
    return 64 if count <= 64 else 128


def features_of(dims: int) -> int:
    """The padded number of features: a power of two, or a multiple of 64."""
    return -(-dims // 64) * 64 if dims > 64 else max(16, 1 << (dims - 1).bit_length()) if dims else 16


def columns_of(width: int) -> int:
    """The padded number of columns of weights."""
    return width if width == 1 else features_of(width)


def side() -> int:
    """Rows and columns of a panel of pairs: a cache holds it, and its matrix products fill a machine."""
    return 2 * SMALL.rows if _triton.INTERPRETED else 4096


def programs(like: Tensor) -> int:
    """How many programs are enough for the machine."""
    if like.device.type != "cuda":
        return 1
    return 4 * torch.cuda.get_device_properties(like.device).multi_processor_count
