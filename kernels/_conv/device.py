"""Convolutions on a GPU: which programs run. kernels.py has the programs, sizes.py their tiles.

All take tensors as `geometry.dense` lays them, copying those that lie otherwise, and give such tensors.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gancore.kernels import _triton
from gancore.kernels._conv import kernels, sizes
from gancore.kernels._conv.geometry import Geometry, channels_last, dense

BIG = 1 << 31
Three = tuple[int, int, int]


def _three(values: Sequence[int], lead: int) -> Three:
    """Of three spatial dimensions those that are not there, with `lead` in their place, come first."""
    first, second, third = (*[lead] * (3 - len(values)), *values)
    return first, second, third


def _shape(stride: Sequence[int], geometry: Geometry, kernel: Sequence[int]) -> dict[str, Three]:
    return {"K": _three(kernel, 1), "S": _three(stride, 1), "P": _three(geometry.padding, 0)}


def _wide(*tensors: Tensor) -> bool:
    return any(t.numel() >= BIG for t in tensors)


def _options(found: sizes.Sizes) -> dict[str, int | str]:
    rows, cols, chunk, warps, stages, precision = found
    return {"BM": rows, "BN": cols, "BK": chunk, "PRECISION": precision, "num_warps": warps, "num_stages": stages}


def _add(parts: Tensor, out: Tensor) -> Tensor:
    """The sum of parts (parts, ...) as they lie in out's memory."""
    launch = -(-out.numel() // 1024)
    _triton.launch(
        kernels.add_kernel, launch, out, parts, out, out.numel(), len(parts), WIDE=_wide(parts), BLOCK=1024
    )  # fmt: skip
    return out


def _moments(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of the moments (3, tiles, C) of tiles."""
    _, tiles, columns = parts.shape
    mean, var = parts.new_empty(columns), parts.new_empty(columns)
    # Eight channels, what one sector of memory holds, so that few channels still make several programs.
    _triton.launch(kernels.moments_kernel, -(-columns // 8), parts, parts, mean, var, tiles, columns, BM=256, BN=8)
    return mean, var


def _phases(kernel: Three, stride: Three, padding: Three) -> list[tuple[int, int, int]]:
    """(first phase, how many, taps of each): phases of equal taps share a launch, as all do where the stride divides the kernel."""
    count = math.prod(stride)
    if all(k % s == 0 for k, s in zip(kernel, stride, strict=True)):
        return [(0, count, math.prod(kernel) // count)]
    found = []
    for phase in range(count):
        r = (phase // stride[2] // stride[1], phase // stride[2] % stride[1], phase % stride[2])
        rows = zip(kernel, stride, padding, r, strict=True)
        found.append((phase, 1, math.prod(-(-max(0, k - (at + p) % s) // s) for k, s, p, at in rows)))
    return found


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y (N, Cout, *large), and if asked for the mean and biased variance (Cout,) of its channels, float32."""
    x, w = dense(x), dense(w)
    batch, channels, *small = x.shape
    columns, *kernel = w.shape[1:]
    y = channels_last((batch, columns, *geometry.large(small, kernel)), x)
    # Of a single position each output sees one tap, whatever the stride. That of the kernel's size makes each tap a phase: a matrix
    # product of its own.
    shape = _shape(kernel if math.prod(small) == 1 else geometry.stride, geometry, kernel)
    large, stride = _three(y.shape[2:], 1), shape["S"]
    phases = math.prod(stride)
    rows = batch * math.prod(-(-o // s) for o, s in zip(large, stride, strict=True))
    together = phases * columns <= sizes.PATCH
    found = sizes.patch(phases * columns, channels, x) if together else sizes.gemm(rows * phases, columns, channels, x)
    tiles = -(-rows // found.rows)
    parts = x.new_empty((3, tiles * phases, columns) if statistics else 0, dtype=torch.float32)
    given = (x, w, y, parts, batch, *_three(small, 1), *large, channels, columns)
    options = {**shape, "STATISTICS": statistics, "WIDE": _wide(x, w, y), **_options(found)}
    if together:
        _triton.launch(kernels.patch_kernel, tiles, y, *given, tiles, **options)
    else:
        chunks = -(-channels // found.chunk)
        for first, some, taps in _phases(shape["K"], stride, shape["P"]):
            _triton.launch(
                kernels.gemm_kernel, tiles * some * -(-columns // found.cols), y,
                *given, first, some, tiles, taps * chunks, taps * -(-channels // 16), UP=True, FLAT=False, **options,
            )  # fmt: skip
    return (y, *_moments(parts)) if statistics else (y, parts, parts.clone())


def correlate(g: Tensor, w: Tensor, geometry: Geometry, size: Sequence[int]) -> Tensor:
    """(N, Cin, *size)."""
    g, w = dense(g), dense(w)
    batch, channels, *large = g.shape
    columns, _, *kernel = w.shape
    out = channels_last((batch, columns, *size), g)
    shape, taps = _shape(geometry.stride, geometry, kernel), math.prod(kernel)
    rows, flat = batch * math.prod(size), channels <= sizes.FEW
    found = sizes.gemm(rows, columns, taps * channels if flat else channels, g)
    tiles, across = -(-rows // found.rows), -(-columns // found.cols)
    steps = -(-taps * channels // found.chunk) if flat else taps * -(-channels // found.chunk)
    parts, count = (1, steps) if flat else sizes.parts(tiles * across, steps, g)
    sums = out if parts == 1 else out.new_empty(parts, out.numel(), dtype=torch.float32)
    # A part of the steps in chunks of 16 is that of the steps in larger ones.
    again = taps * -(-channels // 16) if parts == 1 else count * -(-channels // 16) // -(-channels // found.chunk)
    _triton.launch(
        kernels.gemm_kernel, tiles * across * parts, out,
        g, w, sums, sums, batch, *_three(large, 1), *_three(size, 1), channels, columns, 0, 1, tiles, count, again,
        UP=False, FLAT=flat, STATISTICS=False, WIDE=_wide(g, w, sums), **shape, **_options(found),
    )  # fmt: skip
    return out if parts == 1 else _add(sums, out)


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel: Sequence[int]) -> Tensor:
    """(Cin, Cout, *kernel)."""
    x, g = dense(x), dense(g)
    batch, channels, *small = x.shape
    _, columns, *large = g.shape
    out = channels_last((channels, columns, *kernel), x)
    shape, taps, flat = _shape(geometry.stride, geometry, kernel), math.prod(kernel), columns <= sizes.FEW
    positions = batch * math.prod(small)
    found = sizes.gemm(channels, taps * columns if flat else columns, positions, x)
    down = -(-channels // found.rows)
    across = -(-taps * columns // found.cols) if flat else taps * -(-columns // found.cols)
    parts, count = sizes.parts(down * across, -(-positions // found.chunk), x)
    sums = out if parts == 1 else out.new_empty(parts, out.numel(), dtype=torch.float32)
    _triton.launch(
        kernels.weight_kernel, down * across * parts, out,
        x, g, sums, batch, *_three(small, 1), *_three(large, 1), channels, columns, down, count,
        FLAT=flat, WIDE=_wide(x, g, sums), **shape, **_options(found),
    )  # fmt: skip
    return out if parts == 1 else _add(sums, out)
