"""Kernel sums on a CPU: tiles of x y^T through PyTorch's matrix product, one pass of csrc/kernel_sums.cpp over each, and the
products of what that leaves. No tile outlives its turn."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _native
from gancore.kernels.kernel_sums.form import PARAMS, First, Form, Points, Second, U, V, X, Y
from gancore.kernels.kernel_sums.kernel import ABSOLUTE, DOT, SQUARED
from gancore.kernels.kernel_sums.reference import shift

_ROWS, _COLUMNS = 256, 2048  # a tile of float32 is 2 MB: half of it in each of two cores' second cache
_FEW = 16  # features up to which differences are cheaper than a matrix product, and more exact
_NOWHERE = 1 << 62
_VALUES, _WEIGHTS, _SECONDS = range(3)  # columns of the pass's row sums


class _Tile(NamedTuple):
    """Rows and columns whose pairs are visited together. times: 2 where a symmetric sum has another tile like it."""

    rows: slice
    columns: slice
    times: int


def _tiles(n: int, m: int, block: int, same: bool) -> Iterator[_Tile]:
    size = block or max(n, m, 1)
    for start in range(0, n, size):
        end = min(start + size, m)
        for i in range(start, min(start + size, n), _ROWS):
            rows = slice(i, min(i + _ROWS, start + size, n))
            if same:
                yield _Tile(rows, rows, 1)
            for j in range(rows.stop if same else start, end, _COLUMNS):
                yield _Tile(rows, slice(j, min(j + _COLUMNS, end)), 1 + same)


class _Side:
    """One sample as tiles take it: points less the common shift, what turns products into distances, sums of weights by row."""

    def __init__(self, given: Points, form: Form, center: Tensor | None, direct: bool) -> None:
        self.points = given.points.contiguous() if center is None else (given.points - center).contiguous()
        self.weights, self.weight_tangent = given.weights, given.weight_tangent
        self.tangent = None if given.tangent is None else given.tangent.contiguous()
        self.across = self.across_tangent = self.norms = self.slopes = None
        if direct:
            self.across = self.points.T.contiguous()
            self.across_tangent = None if self.tangent is None else self.tangent.T.contiguous()
        elif form.metric == SQUARED:
            self.norms = torch.linalg.vecdot(self.points, self.points)
            self.slopes = None if self.tangent is None else torch.linalg.vecdot(self.points, self.tangent)
        self.sums = self.points.new_zeros(3, len(self.points), dtype=torch.float64)
        self.gradient: Tensor | None = None
        self.weight_gradient: Tensor | None = None

    def finish(self, form: Form, factor: int) -> tuple[Tensor, Tensor]:
        """The gradients by points and by weights, empty where they are not asked for."""
        if (g := self.gradient) is not None:
            if form.metric == SQUARED:
                g.addcmul_(self.sums[_WEIGHTS, :, None].to(g.dtype), self.points)
                if self.tangent is not None:
                    g.addcmul_(self.sums[_SECONDS, :, None].to(g.dtype), self.tangent)
            g.mul_(factor)
        if (w := self.weight_gradient) is not None:
            w = (self.sums[_VALUES, :, None].to(w.dtype) if w.shape[1] == 1 else w) * factor
        return self.points.new_empty(0) if g is None else g, self.weights.new_empty(0) if w is None else w


class _Sweep:
    """All tiles of one call of order 0 (K v), 1 (First) or 2 (Second)."""

    def __init__(self, order: int, left: Points, right: Points | None, params: Tensor, form: Form, wanted: int) -> None:
        self.order, self.form, self.wanted, self.same = order, form, wanted, right is None
        far = left if right is None else right
        features = left.points.shape[1]
        self.direct = form.metric == ABSOLUTE or (form.metric == SQUARED and features <= _FEW)
        center = shift(far.points) if form.metric == SQUARED else None
        self.left = _Side(left, form, center, self.direct)
        self.right = self.left if right is None else _Side(right, form, center, self.direct)
        self.terms = torch.cat([params, params.new_tensor(form.codes)[:, None]], 1)
        self.sums = params.new_zeros(2, 1 + 3 * len(form.codes))
        self.outer = far.weights.shape[1] > 1
        for side, x, u in ((self.left, X, U), (self.right, Y, V)):
            if order and wanted & x:
                side.gradient = torch.zeros_like(side.points)
            if wanted & u:
                side.weight_gradient = torch.zeros_like(side.weights)
        self.tiles = list(_tiles(len(left.points), len(far.points), form.block, self.same))
        shape = (max((_long(t.rows) for t in self.tiles), default=0), max((_long(t.columns) for t in self.tiles), default=0))
        keep = self.outer and bool(wanted & (U | V))
        used = {"d": True, "p": order == 2, "c": order > 0 and self.outer, "pc": order == 2 and self.outer}
        used |= {"k": order > 0 and keep, "q": order == 2 and keep}
        self.buffers = {name: self.left.points.new_empty(shape) for name, need in used.items() if need}

    def run(self) -> None:
        for tile in self.tiles:
            parts = {name: t[: _long(tile.rows), : _long(tile.columns)] for name, t in self.buffers.items()}
            self._fill(tile, parts)
            self._pass(tile, parts)
            self._gather(tile, parts)

    def _fill(self, tile: _Tile, parts: dict[str, Tensor]) -> None:
        """Products or distances of points into d, of tangents and points into p; of weights into c and pc."""
        left, right, d, p = self.left, self.right, parts["d"], parts.get("p")
        x, px, py = left.points[tile.rows], _part(left.tangent, tile.rows), right.tangent
        if self.direct:
            assert right.across is not None
            py = None if py is None else right.across_tangent[:, tile.columns]  # type: ignore[index]
            across = right.across[:, tile.columns]
            _native.op("kernel_distances_native")(d, p, x, across, px, py, self.form.metric == SQUARED)
        else:
            _products(d, p, x, right.points[tile.columns], px, _part(py, tile.columns))
        if self.outer and self.order:
            u, pu = left.weights[tile.rows], _part(left.weight_tangent, tile.rows)
            v, pv = right.weights[tile.columns], _part(right.weight_tangent, tile.columns)
            _products(parts["c"], parts.get("pc"), u, v, pu, pv)

    def _pass(self, tile: _Tile, parts: dict[str, Tensor]) -> None:
        rows, columns, left, right = tile.rows, tile.columns, self.left, self.right
        ends: list[Tensor | None] = [None] * 4
        if not self.outer:
            pairs = ((left.weights, rows), (right.weights, columns), (left.weight_tangent, rows), (right.weight_tangent, columns))
            ends = [None if t is None else t[part, 0].to(left.points.dtype).contiguous() for t, part in pairs]
        own = left.sums.new_empty(_long(rows), 3) if self.order else None
        # Columns have sums of their own where they are not rows, or are the rows of another tile.
        across = self.order and (tile.times == 2 or (not self.same and self.wanted & (Y | V)))
        others = right.sums.new_zeros(3, _long(columns)) if across else None
        values = parts["d"] if self.order == 0 else parts.get("k")
        _native.op("kernel_tile_native")(
            self.order, parts["d"], parts.get("p"), left.points[rows], right.points[columns],
            _part(left.tangent, rows), _part(right.tangent, columns), _part(left.norms, rows), _part(right.norms, columns),
            _part(left.slopes, rows), _part(right.slopes, columns), *ends, parts.get("c"), parts.get("pc"), values, parts.get("q"),
            self.terms, own, others, self.sums[tile.times - 1], self.form.metric,
            rows.start - columns.start if self.same else _NOWHERE, not self.form.diagonal, bool(self.wanted & PARAMS),
        )  # fmt: skip
        if own is not None:
            left.sums[:, rows] += own.T
        if others is not None:
            right.sums[:, columns] += others

    def _gather(self, tile: _Tile, parts: dict[str, Tensor]) -> None:
        left, right, rows, columns = self.left, self.right, tile.rows, tile.columns
        if self.order == 0:
            assert left.weight_gradient is not None
            left.weight_gradient[rows].addmm_(parts["d"], right.weights[columns])
            return
        self._add(left, right, rows, columns, parts, "N")
        if tile.times == 2 or not self.same:
            self._add(right, left, columns, rows, parts, "T")

    def _add(self, to: _Side, far: _Side, mine: slice, other: slice, parts: dict[str, Tensor], turn: str) -> None:
        """What the points `other` of one side give to the gradients of the points `mine` of the other."""
        turned = {name: t.T if turn == "T" else t for name, t in parts.items()}
        sign = 1 if self.form.metric == DOT else -1
        if to.gradient is not None:
            g = to.gradient[mine]
            if self.form.metric == ABSOLUTE:
                assert far.across is not None
                _native.op("kernel_signs_native")(g, turned["d"].contiguous(), to.points[mine], far.across[:, other])
            else:
                g.addmm_(turned["d"], far.points[other], alpha=sign)
                if far.tangent is not None:
                    g.addmm_(turned["p"], far.tangent[other], alpha=sign)
        if to.weight_gradient is not None and self.outer:
            # In the first order k v; in the second psi p v + k pv.
            to.weight_gradient[mine].addmm_(turned["q" if self.order == 2 else "k"], far.weights[other])
            if far.weight_tangent is not None:
                to.weight_gradient[mine].addmm_(turned["k"], far.weight_tangent[other])


def _long(part: slice) -> int:
    return int(part.stop - part.start)


def _part(t: Tensor | None, part: slice) -> Tensor | None:
    return None if t is None else t[part]


def _products(d: Tensor, p: Tensor | None, x: Tensor, y: Tensor, px: Tensor | None, py: Tensor | None) -> None:
    """x y^T into d, px y^T + x py^T into p."""
    torch.mm(x, y.T, out=d)
    if p is None:
        return
    p.zero_() if px is None else torch.mm(px, y.T, out=p)
    if py is not None:
        p.addmm_(x, py.T)


def dot(x: Tensor, y: Tensor, v: Tensor, params: Tensor, form: Form) -> Tensor:
    """K(x, y) v, (N, E)."""
    sweep = _Sweep(0, Points(x, v.new_empty(len(x), v.shape[1])), Points(y, v), params, form, U)
    sweep.run()
    assert sweep.left.weight_gradient is not None
    return sweep.left.weight_gradient


def first(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> First:
    """The sum over all pairs, and its derivatives."""
    sweep = _Sweep(1, left, right, params, form, wanted)
    sweep.run()
    sums = sweep.sums[0] + 2 * sweep.sums[1]
    x, u = sweep.left.finish(form, 1 + sweep.same)
    y, v = (x.new_empty(0), x.new_empty(0)) if right is None else sweep.right.finish(form, 1)
    numbers = sums[1:].view(-1, 3) if wanted & PARAMS else params.new_empty(0)
    return First(sums[0].clone(), x, y, u, v, numbers)


def second(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> Second:
    """Derivatives of the derivative along the tangents."""
    sweep = _Sweep(2, left, right, params, form, wanted)
    sweep.run()
    x, u = sweep.left.finish(form, 1 + sweep.same)
    y, v = (x.new_empty(0), x.new_empty(0)) if right is None else sweep.right.finish(form, 1)
    return Second(x, y, u, v)
