"""Kernel sums on a GPU: which programs run over which tiles. device_kernels.py has the programs.

First derivatives of |x - y|^2 and x . y with few features take one launch, in which a program owns some rows and keeps their sums
on chip. All others go panel by panel: programs that own a tile each write the pairs' weights into a panel, and matrix products of
it with the points follow, for both sides from the same weights, and for both directions of a symmetric sum. A panel is of bounded
size, so that memory stays linear in the samples, and is small enough to be read from a cache.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _triton
from gancore.kernels.kernel_sums import device_kernels, reference
from gancore.kernels.kernel_sums import device_sizes as sizes
from gancore.kernels.kernel_sums.form import PARAMS, First, Form, Points, Second, U, V, X, Y
from gancore.kernels.kernel_sums.kernel import ABSOLUTE, DOT, SQUARED


class Sample(NamedTuple):
    """One side of the pairs, block by block: points and tangents (blocks, rows, features), padded; of those the first `size` rows
    and `dims` features count. norms, inner: |x|^2 and <px, x>. lanes: points and tangents as distances want them."""

    points: Tensor
    tangent: Tensor | None
    norms: Tensor
    inner: Tensor
    weights: Tensor
    weight_tangent: Tensor
    lanes: tuple[Tensor, Tensor]
    size: int
    dims: int

    @property
    def blocks(self) -> int:
        """How many blocks of rows there are, which do not meet."""
        return self.points.shape[0]

    @property
    def rows(self) -> int:
        """Rows of a block, padded."""
        return self.points.shape[1]

    def taken(self, t: Tensor) -> Tensor:
        """Of (blocks, rows, width) the rows that count, one block after the other."""
        return t[:, : self.size].reshape(self.blocks * self.size, -1)


def _padded(t: Tensor, blocks: int, rows: int, width: int, dtype: torch.dtype) -> Tensor:
    t = t.reshape(blocks, -1, t.shape[1])
    if t.shape[1:] == (rows, width):
        return t.to(dtype).contiguous()
    found = t.new_zeros(blocks, rows, width, dtype=dtype)
    found[:, : t.shape[1], : t.shape[2]] = t
    return found


def _sample(side: Points, center: Tensor | None, form: Form) -> Sample:
    x = side.points if center is None else side.points - center
    blocks = len(x) // form.block if form.block else 1
    count, (dims, width) = len(x) // blocks, (x.shape[1], side.weights.shape[1])
    unit = sizes.unit(count)
    shape = (blocks, -(-count // unit) * unit)
    dtype = torch.bfloat16 if form.precision == "brief" and form.metric != ABSOLUTE else torch.float32
    points = _padded(x, *shape, sizes.features_of(dims), dtype)
    tangent = None if side.tangent is None else _padded(side.tangent, *shape, sizes.features_of(dims), dtype)
    columns = sizes.columns_of(width)
    weights = _padded(side.weights, *shape, columns, torch.float32)
    given = side.weight_tangent
    weight_tangent = torch.zeros_like(weights) if given is None else _padded(given, *shape, columns, torch.float32)
    norms = inner = weights
    if form.metric == SQUARED:
        wide = points.float()
        norms = wide.square().sum(2)
        inner = norms if tangent is None else (wide * tangent.float()).sum(2)
    lanes = [points if t is None else t for t in (points, tangent)]
    if form.metric == ABSOLUTE:
        lanes = [t.transpose(1, 2).contiguous() for t in lanes]
    return Sample(points, tangent, norms, inner, weights, weight_tangent, (lanes[0], lanes[1]), count, dims)


def _samples(left: Points, right: Points | None, form: Form) -> tuple[Sample, Sample]:
    center = None if form.metric == DOT else reference.shift((right or left).points)
    x = _sample(left, center, form)
    return x, x if right is None else _sample(right, center, form)


class _Call(NamedTuple):
    """What all launches of one call share."""

    params: Tensor
    form: Form
    same: bool

    def size(self, kernel: str, x: Sample, y: Sample) -> sizes.Sizes:
        return sizes.of(kernel, self.form, y.weights.shape[2], x.points.shape[2], (x.rows, y.rows), x.points)

    def constants(self, found: sizes.Sizes) -> dict[str, Any]:
        return {
            "METRIC": self.form.metric, "SAME": self.same, "DROP": self.same and not self.form.diagonal,
            "BM": found.rows, "BN": found.cols, "PRECISION": found.precision,
            "num_warps": found.warps, "num_stages": found.stages,
        }  # fmt: skip

    def terms(self) -> tuple[Tensor, tuple[int, ...]]:
        return self.params.float().contiguous(), tuple(self.form.codes)


def _parts(like: Tensor, programs: int, tiles: int) -> tuple[int, int]:
    """Into how many parts each row's sum is split, so that few rows still fill the machine; and tiles a part."""
    count = -(-tiles // min(tiles, -(-sizes.programs(like) // programs)))
    return -(-tiles // count), count


def _values(call: _Call, x: Sample, y: Sample, order: int = 0, half: bool = False) -> Tensor:
    """Rows of K v, in the order 2 of K pv + (psi pd) v, (blocks, rows, width); float64 for one column. half: numbers
    in their place whose sum with the weights is the same."""
    found = call.size(f"values{order}", x, y)
    width = y.weights.shape[2]
    columns = min(width, found.columns)
    across = x.rows // found.rows
    programs = x.blocks * across * (width // columns)
    tiles = (across // 2 + 1) * (found.rows // found.cols) if half else -(-y.size // found.cols)
    splits, count = _parts(x.points, programs, tiles)
    kind = torch.float64 if width == 1 else torch.float32
    out = x.points.new_empty(splits, x.blocks, x.rows, width, dtype=kind)
    params, codes = call.terms()
    _triton.launch(
        device_kernels.values_kernel, programs * splits, out,
        x.lanes[0], y.lanes[0], x.lanes[1], y.lanes[1], x.norms, y.norms, x.inner, y.inner,
        y.weights, y.weight_tangent, params, out,
        x.rows, y.rows, y.size, x.points.shape[2], x.dims, width, x.blocks, width // columns, splits, count,
        CODES=codes, ORDER=order, PX=order == 2 and x.tangent is not None, PY=order == 2 and y.tangent is not None,
        HALF=half, BK=found.chunk, BE=columns, **call.constants(found),
    )  # fmt: skip
    return out.sum(0)


def _rows(call: _Call, x: Sample, y: Sample) -> tuple[Tensor, Tensor]:
    """Rows of dS/dx (blocks, rows, features), and (blocks, rows) of K v, or of several columns of weights <u_i, (K v)_i>."""
    found = call.size("rows", x, y)
    width, features = y.weights.shape[2], x.points.shape[2]
    programs = x.blocks * (x.rows // found.rows)
    splits, count = _parts(x.points, programs, -(-y.size // found.cols))
    out = x.points.new_empty(splits, x.blocks, x.rows, features, dtype=torch.float32)
    total = out.new_empty(splits, x.blocks, x.rows, dtype=torch.float64)
    params, codes = call.terms()
    _triton.launch(
        device_kernels.rows_kernel, programs * splits, out,
        x.points, y.points, x.norms, y.norms, x.weights, y.weights, params, out, total,
        x.rows, y.rows, y.size, width, x.blocks, splits, count,
        CODES=codes, D=features, BK=found.chunk, BE=min(width, 16), **call.constants(found),
    )  # fmt: skip
    return out.sum(0), total.sum(0)


def _numbers(call: _Call, x: Sample, y: Sample) -> Tensor:
    """The sum's derivatives by the kernel's parameters, (terms, 3). A rare wish: each term takes a launch."""
    found = call.size("numbers", x, y)
    width = y.weights.shape[2]
    programs = x.blocks * (x.rows // found.rows)
    splits, count = _parts(x.points, programs, -(-y.size // found.cols))
    rows = []
    params, codes = call.terms()
    for term, code in enumerate(codes):
        out = x.points.new_empty(3, splits, x.blocks, x.rows, dtype=torch.float64)
        _triton.launch(
            device_kernels.numbers_kernel, programs * splits, out,
            x.lanes[0], y.lanes[0], x.norms, y.norms, x.weights, y.weights, params, out,
            x.rows, y.rows, y.size, x.points.shape[2], x.dims, width, x.blocks, splits, count, out[0].numel(), term,
            CODE=code, BK=found.chunk, BE=min(width, 16), **call.constants(found),
        )  # fmt: skip
        rows.append(out[..., : x.size].sum((1, 2, 3)))
    return torch.stack(rows)


class _Found(NamedTuple):
    """Sums by panels: dS/dx and dS/dy (blocks, rows, features) or those of the order 2, and by weights (blocks, rows)."""

    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor


class _Panel(NamedTuple):
    """Blocks, rows and columns of the pairs, from where and how many, rows and columns as they are padded."""

    block: int
    row: int
    col: int
    blocks: int
    high: int
    wide: int


def _panels(x: Sample, y: Sample, same: bool) -> list[_Panel]:
    side = sizes.side()
    together = max(1, side * side // (x.rows * y.rows))
    return [
        _Panel(b, r, c, min(together, x.blocks - b), min(side, x.rows - r), min(side, y.rows - c))
        for b in range(0, x.blocks, together)
        for r in range(0, x.rows, side)
        for c in range(r if same else 0, y.rows, side)
    ]


def _gather(call: _Call, panel: _Panel, weights: tuple[Tensor, Tensor], x: Sample, y: Sample, out: Tensor, turned: bool) -> None:
    """Adds the panel's part to out; turned: x are its columns."""
    high, deep = (panel.wide, panel.high) if turned else (panel.high, panel.wide)
    row, col = (panel.col, panel.row) if turned else (panel.row, panel.col)
    second = call.form.metric != ABSOLUTE and weights[1] is not weights[0]
    found = call.size("gather2" if second else "gather1", x, y)
    features = x.points.shape[2]
    columns = math.gcd(features, found.columns)
    tangents = [t.points if t.tangent is None else t.tangent for t in (x, y)]
    _triton.launch(
        device_kernels.gather_kernel, panel.blocks * (high // found.rows) * (features // columns), out,
        *weights, x.points, y.points, *tangents, out,
        x.rows, y.rows, features, panel.block, row, col, high, min(deep, y.size - col), panel.high * panel.wide,
        *((1, panel.wide) if turned else (panel.wide, 1)),
        METRIC=call.form.metric, PX=second and x.tangent is not None, PY=second and y.tangent is not None,
        BM=found.rows, BN=found.cols, BF=columns, PRECISION=found.precision, num_warps=found.warps, num_stages=found.stages,
    )  # fmt: skip


def _tiles(call: _Call, panel: _Panel, x: Sample, y: Sample, order: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """The weights of a panel (blocks, high, wide), and its sums by rows and columns, float64."""
    found = call.size(f"tiles{order}", x, y)
    px, py = (order == 2 and t.tangent is not None for t in (x, y))
    first = x.points.new_empty(panel.blocks, panel.high, panel.wide)
    second = torch.empty_like(first) if px or py else first
    down, across = panel.high // found.rows, panel.wide // found.cols
    by_row = first.new_empty(panel.blocks, across, panel.high, dtype=torch.float32)
    by_col = first.new_empty(panel.blocks, down, panel.wide, dtype=torch.float32)
    params, codes = call.terms()
    width = x.weights.shape[2]
    _triton.launch(
        device_kernels.tiles_kernel, panel.blocks * down * across, first,
        x.lanes[0], y.lanes[0], x.lanes[1], y.lanes[1], x.norms, y.norms, x.inner, y.inner,
        x.weights, y.weights, x.weight_tangent, y.weight_tangent, params, first, second, by_row, by_col,
        x.rows, y.rows, x.size, y.size, x.points.shape[2], x.dims, width,
        panel.block, panel.row, panel.col, panel.high, panel.wide,
        CODES=codes, ORDER=order, PX=px, PY=py, BK=found.chunk, BE=min(width, 16), **call.constants(found),
    )  # fmt: skip
    return (first, second), by_row.sum(1, dtype=torch.float64), by_col.sum(1, dtype=torch.float64)


def _by_panels(call: _Call, x: Sample, y: Sample, order: int, wanted: int) -> _Found:
    """All derivatives of one visit. Of a symmetric sum the panels above the diagonal stand for those below."""
    found = _Found(
        *(torch.zeros_like(t.points, dtype=torch.float32) for t in (x, y)),
        *(t.points.new_zeros(t.blocks, t.rows, dtype=torch.float64) for t in (x, y)),
    )
    for panel in _panels(x, y, call.same):
        weights, by_row, by_col = _tiles(call, panel, x, y, order)
        there = slice(panel.block, panel.block + panel.blocks)
        rows, cols = slice(panel.row, panel.row + panel.high), slice(panel.col, panel.col + panel.wide)
        mirrored = call.same and panel.row != panel.col
        if wanted & X:
            _gather(call, panel, weights, x, y, found.x, False)
        if wanted & (X if mirrored else Y) and (mirrored or not call.same):
            _gather(call, panel, weights, y, x, found.x if mirrored else found.y, True)
        if order == 1 or x.weights.shape[2] == 1:
            found.u[there, rows] += by_row
            (found.u if mirrored else found.v)[there, cols] += by_col
    return found


def dot(x: Tensor, y: Tensor, v: Tensor, params: Tensor, form: Form) -> Tensor:
    """K(x, y) v, (N, E)."""
    if 0 in (len(x), len(y), v.shape[1]):
        return v.new_zeros(len(x), v.shape[1])
    rows, cols = _samples(Points(x, v.new_zeros(len(x), 1)), Points(y, v), form)
    return _like(rows, _values(_Call(params, form, False), rows, cols), v.new_empty(len(x), v.shape[1]), 1)


def _like(sample: Sample, found: Tensor, like: Tensor, times: int) -> Tensor:
    found = sample.taken(found)[:, : like.shape[1]]
    return (found * times).to(like.dtype).contiguous()


def _gradients(call: _Call, x: Sample, y: Sample, wanted: int) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Derivatives by the points that are wanted; and what comes with them, the sums of `_rows` by U and V."""
    if not wanted & (X | Y):
        return {}, {}
    if not sizes.on_chip(call.form, x.points.shape[2]):
        sums = _by_panels(call, x, y, 1, wanted)
        return {X: sums.x, Y: sums.y}, {U: sums.u}  # sums by columns have not the bits of a pass by rows, as V alone takes
    found, totals = {}, {}
    for points, weights, own, other in ((X, U, x, y), (Y, V, y, x)):
        if wanted & points:
            found[points], totals[weights] = _rows(call, own, other)
    return found, totals


def _results(left: Points, right: Points | None, x: Sample, y: Sample, found: dict[int, Tensor], wanted: int) -> Second:
    """The derivatives in the shapes and types of their arguments."""
    # In the place of a side that is not there stands an empty tensor like x.
    far, times = (Points(left.points, left.points), 2) if right is None else (right, 1)
    given = ((X, x, left.points), (Y, y, far.points), (U, x, left.weights), (V, y, far.weights))
    return Second(*(_like(own, found[bit], like, times) if wanted & bit else like.new_empty(0) for bit, own, like in given))


def _nothing(left: Points, right: Points | None, wanted: int) -> Second | None:
    """Zeros, if there are no pairs."""
    far = Points(left.points, left.points) if right is None else right
    if 0 not in (len(left.points), len(far.points), left.weights.shape[1]):
        return None
    given = ((X, left.points), (Y, far.points), (U, left.weights), (V, far.weights))
    return Second(*(torch.zeros_like(t).contiguous() if wanted & bit else t.new_empty(0) for bit, t in given))


def first(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> First:
    """The sum over all pairs, and its derivatives."""
    wanted = wanted if right is not None else wanted & ~(Y | V)
    nothing = _nothing(left, right, wanted)
    if nothing is not None:
        return First(params.new_zeros(()), *nothing, torch.zeros_like(params) if wanted & PARAMS else params.new_empty(0))
    x, y = _samples(left, right, form)
    call = _Call(params, form, right is None)
    one = left.weights.shape[1] == 1
    found, totals = _gradients(call, x, y, wanted)
    products = dict(totals) if one else {}
    if U not in products and (wanted & U or U not in totals):
        products[U] = _values(call, x, y, half=one and call.same and not wanted & U)
    if V not in products and wanted & V:
        products[V] = _values(call, y, x)
    # Always by rows of x: the bits of the value do not depend on which derivatives are asked for.
    if one or U not in totals:
        value = (_like(x, products[U], left.weights.double(), 1) * left.weights.double()).sum()
    else:
        value = x.taken(totals[U]).sum()
    numbers = _numbers(call, x, y).to(params.dtype) if wanted & PARAMS else params.new_empty(0)
    return First(value, *_results(left, right, x, y, found | products, wanted), numbers)


def second(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> Second:
    """Derivatives of the derivative along the tangents."""
    wanted = wanted if right is not None else wanted & ~(Y | V)
    nothing = _nothing(left, right, wanted)
    if nothing is not None:
        return nothing
    x, y = _samples(left, right, form)
    call = _Call(params, form, right is None)
    one = left.weights.shape[1] == 1
    found: dict[int, Tensor] = {}
    if one or wanted & (X | Y):
        sums = _by_panels(call, x, y, 2, wanted)
        found = {X: sums.x, Y: sums.y, U: sums.u, V: sums.v}
    if not one:
        found |= {bit: _values(call, *sides, order=2) for bit, sides in ((U, (x, y)), (V, (y, x))) if wanted & bit}
    return _results(left, right, x, y, found, wanted)
