"""Convolutions on a GPU: sizes of tiles, such that nothing spills, and which shapes count as few channels."""

from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _triton

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


def _power(n: int, least: int, most: int) -> int:
    """The power of two from n on, between the bounds."""
    return min(most, max(least, 1 << (n - 1).bit_length()))


def precision(like: Tensor) -> str:
    """Triton's name of products that err like float32; AMD has matrix units for float32 itself."""
    return "ieee" if _triton.INTERPRETED or torch.version.hip else "tf32x3" if like.dtype == torch.float32 else "tf32"


def programs(like: Tensor) -> int:
    """How many programs fill the machine."""
    return 1 if like.device.type != "cuda" else torch.cuda.get_device_properties(like.device).multi_processor_count


def gemm(rows: int, columns: int, depth: int, like: Tensor) -> Sizes:
    """Of a product (rows, depth) x (depth, columns), depth as far as one chunk may reach."""
    if _triton.INTERPRETED:
        return SMALL
    cols = _power(columns, 16, 128)
    if like.dtype == torch.float32:
        return Sizes(64, min(cols, 64), _power(depth, 16, 32), 4, 2, precision(like))
    chunk = _power(depth, 16, 32 if torch.version.hip else 64)
    # With four warps tiles of 128 x 128 spill, and so do 256 columns.
    if cols == 128 and -(-rows // 128) * -(-columns // 128) >= programs(like):
        return Sizes(128, 128, chunk, 8, 3, precision(like))
    return Sizes(64, min(cols, 64), chunk, 4, 3, precision(like))


def patch(columns: int, depth: int, like: Tensor) -> Sizes:
    """Of `patch_kernel`. One stage: loads that are not pipelined pass through the first cache, where shifted tiles of x meet."""
    if _triton.INTERPRETED:
        return SMALL._replace(cols=_power(columns, 16, PATCH))
    return Sizes(128, _power(columns, 16, PATCH), _power(depth, 16, 32 if like.dtype == torch.float32 else 64), 4, 1, precision(like))


def parts(programs_of_one: int, steps: int, like: Tensor) -> tuple[int, int]:
    """Into how many parts a sum of that many steps is split, so that few tiles still fill the machine; and the steps of one."""
    count = -(-steps // max(1, min(-(-2 * programs(like) // programs_of_one), steps // 4)))
    return -(-steps // count), count
