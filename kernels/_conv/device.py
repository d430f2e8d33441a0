"""Convolutions on a GPU: which programs run. kernels.py has the programs, sizes.py their tiles.

All take tensors as `geometry.dense` lays them, copying those that lie otherwise, and give such tensors.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _triton
from gancore.kernels._conv import kernels, sizes
from gancore.kernels._conv.geometry import Geometry, channels_last, dense, no_moments

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


def _sums(parts: int, out: Tensor) -> Tensor:
    """Where programs write: one part to out itself, several to float32 memory, one like out's after the other."""
    return out if parts == 1 else out.new_empty(parts, out.numel(), dtype=torch.float32)


def _added(sums: Tensor, out: Tensor) -> Tensor:
    """out, once it holds the sum of the parts."""
    if sums is not out:
        programs = -(-out.numel() // 1024)
        _triton.launch(
            kernels.add_kernel, programs, out, sums, out, out.numel(), len(sums), WIDE=_wide(sums), BLOCK=1024
        )  # fmt: skip
    return out


def _moments(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of the moments (3, tiles, C) of tiles."""
    _, tiles, columns = parts.shape
    mean, var = parts.new_empty(columns), parts.new_empty(columns)
    # Eight channels, what one sector of memory holds, so that few channels still make several programs.
    _triton.launch(kernels.moments_kernel, -(-columns // 8), parts, parts, mean, var, tiles, columns, BM=256, BN=8)
    return mean, var


def _steps(taps: int, channels: int, chunk: int, flat: bool) -> int:
    return -(-taps * channels // chunk) if flat else taps * -(-channels // chunk)


class Plan(NamedTuple):
    """How the transposed direction is computed: the spatial sizes it makes, kernel, stride and padding as the programs see them,
    tiles of rows, the taps of each phase, whether one program makes all phases, whether chunks run over taps, sizes of tiles."""

    large: tuple[int, ...]
    shape: dict[str, Three]
    tiles: int
    taps: list[int]
    together: bool
    flat: bool
    sizes: sizes.Sizes

    def launches(self) -> list[tuple[int, int, bool]]:
        """(first phase, how many, ragged) of each launch."""
        if len(set(self.taps)) == 1:
            return [(0, len(self.taps), False)]
        if sizes.computed_loops():
            return [(0, len(self.taps), True)]
        return [(phase, 1, False) for phase in range(len(self.taps))]


def _taps(kernel: Three, stride: Three, padding: Three) -> list[int]:
    """How many taps each phase has."""
    rows = zip(kernel, stride, padding, strict=True)
    each = [[-(-max(0, k - (r + p) % s) // s) for r in range(s)] for k, s, p in rows]
    return [math.prod(taps) for taps in itertools.product(*each)]


def plan(x: Tensor, w: Tensor, geometry: Geometry) -> Plan:
    """Of x (N, Cin, *small) and w (Cin, Cout, *kernel) only shapes, type and device count."""
    batch, channels, *small = x.shape
    columns, *kernel = w.shape[1:]
    # Of a single position each output sees one tap, whatever the stride. That of the kernel's size makes each tap a phase: a matrix
    # product of its own.
    shape = _shape(kernel if math.prod(small) == 1 else geometry.stride, geometry, kernel)
    large = geometry.large(small, kernel)
    taps = _taps(shape["K"], shape["S"], shape["P"])
    phases, flat = len(taps), channels <= sizes.FEW
    rows = batch * math.prod(-(-o // s) for o, s in zip(_three(large, 1), shape["S"], strict=True))
    together = phases * columns <= sizes.PATCH
    if together:
        found = sizes.patch(rows, phases * columns, channels, x)
    else:
        found = sizes.gemm(rows * phases, columns, channels * max(taps) if flat else channels, True, flat, x)
    return Plan(large, shape, -(-rows // found.rows), taps, together, flat, found)


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y (N, Cout, *large), and if asked for the mean and biased variance (Cout,) of its channels, float32."""
    x, w = dense(x), dense(w)
    how = plan(x, w, geometry)
    (batch, channels), columns = x.shape[:2], w.shape[1]
    y = channels_last((batch, columns, *how.large), x)
    parts = x.new_empty(3, how.tiles * len(how.taps) if statistics else 0, columns, dtype=torch.float32)
    given = (x, w, y, parts, batch, *_three(x.shape[2:], 1), *_three(how.large, 1), channels, columns)
    options = {**how.shape, "STATISTICS": statistics, "WIDE": _wide(x, w, y), **_options(how.sizes)}
    if how.together:
        _triton.launch(kernels.patch_kernel, how.tiles, y, *given, how.tiles, **options)
    else:
        across = -(-columns // how.sizes.cols)
        for first, some, ragged in how.launches():
            _triton.launch(
                kernels.gemm_kernel, how.tiles * some * across, y,
                *given, first, some, how.tiles, _steps(how.taps[first], channels, how.sizes.chunk, how.flat),
                UP=True, FLAT=how.flat, RAGGED=ragged, **options,
            )  # fmt: skip
    return y, *(_moments(parts) if statistics else no_moments(y))


class Traffic(NamedTuple):
    """Bytes of a call of `transposed`. least: x and w are read once and y is written once. cached: what comes from and goes to
    memory where a cache of `cache` bytes keeps w and the rows of x that programs in flight share; beyond the least these are the
    moments of tiles. uncached: where no cache helps, and each program reads its own tiles for every tap."""

    least: int
    cached: int
    uncached: int
    cache: int


def bytes_moved(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> Traffic:
    """Programs go by rows, then phases, then columns: those in flight share few tiles of x, and all share w."""
    how = plan(x, w, geometry)
    channels, columns, size = x.shape[1], w.shape[1], x.element_size()
    phases, (high, wide, *_) = len(how.taps), how.sizes
    y = len(x) * columns * math.prod(how.large) * size
    moments = 2 * 12 * how.tiles * phases * columns if statistics else 0
    least = x.nbytes + w.nbytes + y
    across = 1 if how.together else -(-columns // wide)
    visits = _shifts(**how.shape) if how.together else across * sum(how.taps)
    tiles = how.tiles * visits * channels * (high + wide) * size
    sharing = -(-sizes.programs(x) // (1 if how.together else phases * across))
    return Traffic(least, least + moments, tiles + y + moments, w.nbytes + sharing * high * channels * size)


def _shifts(K: Three, S: Three, P: Three) -> int:
    """In how many places, from where a row is, `patch_kernel` reads x."""
    return math.prod((s - 1 + p) // s + (k - 1 - p) // s + 1 for k, s, p in zip(K, S, P, strict=True))


def correlate(g: Tensor, w: Tensor, geometry: Geometry, size: Sequence[int]) -> Tensor:
    """(N, Cin, *size)."""
    g, w = dense(g), dense(w)
    batch, channels, *large = g.shape
    columns, _, *kernel = w.shape
    out = channels_last((batch, columns, *size), g)
    shape, taps, flat = _shape(geometry.stride, geometry, kernel), math.prod(kernel), channels <= sizes.FEW
    rows = batch * math.prod(size)
    found = sizes.gemm(rows, columns, taps * channels if flat else channels, False, flat, g)
    tiles, across = -(-rows // found.rows), -(-columns // found.cols)
    steps = _steps(taps, channels, found.chunk, flat)
    parts, count = (1, steps) if flat else sizes.parts(tiles * across, steps, g)
    sums = _sums(parts, out)
    _triton.launch(
        kernels.gemm_kernel, tiles * across * parts, out,
        g, w, sums, sums, batch, *_three(large, 1), *_three(size, 1), channels, columns, 0, 1, tiles, count,
        UP=False, FLAT=flat, RAGGED=False, STATISTICS=False, WIDE=_wide(g, w, sums), **shape, **_options(found),
    )  # fmt: skip
    return _added(sums, out)


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel: Sequence[int]) -> Tensor:
    """(Cin, Cout, *kernel)."""
    x, g = dense(x), dense(g)
    batch, channels, *small = x.shape
    _, columns, *large = g.shape
    out = channels_last((channels, columns, *kernel), x)
    shape, taps, flat = _shape(geometry.stride, geometry, kernel), math.prod(kernel), columns <= sizes.FEW
    positions = batch * math.prod(small)
    found = sizes.weight(channels, taps * columns if flat else columns, positions, flat, x)
    down = -(-channels // found.rows)
    across = -(-taps * columns // found.cols) if flat else taps * -(-columns // found.cols)
    parts, count = sizes.parts(down * across, -(-positions // found.chunk), x)
    sums = _sums(parts, out)
    _triton.launch(
        kernels.weight_kernel, down * across * parts, out,
        x, g, sums, batch, *_three(small, 1), *_three(large, 1), channels, columns, down, count,
        FLAT=flat, WIDE=_wide(x, g, sums), **shape, **_options(found),
    )  # fmt: skip
    return _added(sums, out)
