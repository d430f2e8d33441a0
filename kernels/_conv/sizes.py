"""Convolutions on a GPU: sizes of tiles, such that nothing spills, and which shapes count as few channels."""

from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _tiles, _triton

PATCH = 32  # columns, phases times channels, up to which one program makes all phases
FEW = 8  # channels up to which a chunk, or a tile's columns, run over several taps


class Sizes(NamedTuple):
    """A tile's rows and columns, its chunk of the sum, warps, stages of its pipeline, and Triton's name of the precision."""

    rows: int
    cols: int
    chunk: int
    warps: int
    stages: int
    precision: str


SMALL = Sizes(32, 32, 32, 4, 1, "ieee")  # of the interpreter, whose time goes by the operation

# Rows, columns and warps, best first. Triton 3.6 and 3.9 compile them for sm_80, sm_90, sm_100 and gfx942 without a spill, save the
# first in float32 and on gfx942; 128 x 128 with four warps spills, and so do 256 columns.
_TILES = ((128, 128, 8), (128, 64, 8), (64, 64, 4))


def _fits(tile: _tiles.Tile, size: int) -> bool:
    """Of products: a thread has no more sums, nor numbers of an operand, and a program no more shared memory, than with the
    heuristics' largest tile. Fewer than 32 sums by eight warps, or less than 96 of the sum in flight, leave the unit idle."""
    rows, cols, threads = tile["rows"], tile["cols"], 32 * tile["warps"]
    sums, ahead = rows * cols // threads, tile["stages"] * tile["chunk"]
    enough = sums >= (32 if tile["warps"] == 8 else 16) and 96 <= ahead <= 192
    registers = max(sums, max(rows, cols) * tile["chunk"] // threads) <= 128 // size
    return enough and registers and ahead * (rows + cols) * size <= 3 << 15


_TILE = {"rows": (64, 128), "cols": (32, 64, 128), "chunk": (32, 64), "warps": (4, 8), "stages": (2, 3, 4)}
_GEMM = _tiles.tiled("conv.gemm", ("up", "flat", "rows", "columns", "depth"), _fits, **_TILE)
_WEIGHT = _tiles.tiled("conv.weight", ("flat", "rows", "columns", "depth"), _fits, **_TILE)
# All its columns, at most PATCH, are those of one tile.
_PATCH = _tiles.tiled(
    "conv.patch", ("rows", "columns", "depth"), lambda tile, size: True,
    rows=(64, 128), chunk=(16, 32, 64), warps=(4, 8), stages=(1, 2),
)  # fmt: skip


def _power(n: int, least: int, most: int) -> int:
    """The power of two from n on, between the bounds."""
    return min(most, max(least, 1 << (n - 1).bit_length()))


def precision(like: Tensor) -> str:
    """Triton's name of products that err like float32; AMD has matrix units for float32 itself."""
    if _triton.INTERPRETED or torch.version.hip:
        return "ieee"
    return "tf32x3" if like.dtype == torch.float32 else "tf32"


def programs(like: Tensor) -> int:
    """How many programs fill the machine."""
    return 1 if like.device.type != "cuda" else torch.cuda.get_device_properties(like.device).multi_processor_count


def computed_loops() -> bool:
    """Whether a program's loop may end at a number that it computes: in Triton 3.6's interpreter under numpy 2.4 it may not."""
    return not _triton.INTERPRETED


def _most_columns(like: Tensor) -> int:
    return 64 if like.dtype == torch.float32 or torch.version.hip else 128


def gemm(rows: int, columns: int, depth: int, up: bool, flat: bool, like: Tensor) -> Sizes:
    """Of `gemm_kernel` where the products of one tap, or in a flat sum of all, are (rows, depth) x (depth, columns)."""
    return _GEMM.of(like, _usual_gemm(rows, columns, depth, flat, like), int(up), int(flat), rows, columns, depth)


def _usual_gemm(rows: int, columns: int, depth: int, flat: bool, like: Tensor) -> Sizes:
    """The first tiles that fill the machine, in a flat sum the smallest, since its masks take registers."""
    if _triton.INTERPRETED:
        return SMALL
    wide = like.dtype == torch.float32
    cols = _power(columns, 16, _most_columns(like))
    fitting = [tile for tile in _TILES if tile[1] <= max(cols, 64)]
    filling = (tile for tile in fitting if -(-rows // tile[0]) * -(-columns // tile[1]) >= programs(like))
    high, across, warps = _TILES[-1] if flat else next(filling, fitting[-1])
    return Sizes(high, min(cols, across), _power(depth, 16, 32 if wide else 64), warps, 3, precision(like))


def patch(rows: int, columns: int, depth: int, like: Tensor) -> Sizes:
    """Of `patch_kernel`. One stage: loads that are not pipelined pass through the first cache, where shifted tiles of x meet."""
    cols = _power(columns, 16, PATCH)
    if _triton.INTERPRETED:
        usual = SMALL._replace(cols=cols)
    else:
        usual = Sizes(128, cols, _power(depth, 16, 32 if like.dtype == torch.float32 else 64), 4, 1, precision(like))
    return _PATCH.of(like, usual, rows, columns, depth)


def weight(rows: int, columns: int, depth: int, flat: bool, like: Tensor) -> Sizes:
    """Of `weight_kernel`, (rows, depth) x (depth, columns) of one tap, or in a flat sum of all."""
    return _WEIGHT.of(like, _usual_weight(rows, columns, like), int(flat), rows, columns, depth)


def _usual_weight(rows: int, columns: int, like: Tensor) -> Sizes:
    """The grid is filled by parts of the sum, so that its tiles need not be small."""
    if _triton.INTERPRETED:
        return SMALL
    wide = like.dtype == torch.float32
    rows, cols = _power(rows, 64, 64 if wide else 128), _power(columns, 16, _most_columns(like))
    return Sizes(rows, cols, 32 if wide else 64, 8, 2, precision(like))  # three stages of 64 spill on sm_80


def parts(tiles: int, steps: int, like: Tensor) -> tuple[int, int]:
    """Into how many parts a sum of that many steps is split, so that few tiles still fill the machine; and the steps of one, some
    four at least."""
    count = -(-steps // max(1, min(-(-2 * programs(like) // tiles), steps // 4)))
    return -(-steps // count), count
