"""Kernel sums on a CPU: what csrc/kernel_sums.cpp takes and gives."""

import torch
from torch import Tensor

from gancore.kernels import _native
from gancore.kernels.kernel_sums.form import PARAMS, First, Form, Points, Second, U, V, X, Y


def _sweep(order: int, left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> tuple[list[Tensor], Tensor]:
    """All tiles of one call of order 0 (K v), 1 (First) or 2 (Second): derivatives by x, y, u and v, and the sums."""
    dtype = left.points.dtype
    sums = params.new_zeros(1 + 3 * len(form.codes))
    sides = [[None if t is None else t.to(dtype).contiguous() for t in side] for side in (left, right or (None,) * 4)]
    (x, u, px, pu), (y, v, py, pv) = sides
    several = left.weights.shape[1] > 1
    bits = ((X, x, dtype), (Y, y, dtype), (U, u, dtype if several else torch.float64), (V, v, dtype if several else torch.float64))
    found = [None if t is None or not wanted & bit else torch.zeros(t.shape, dtype=kind) for bit, t, kind in bits]
    _native.op("kernel_sums_native")(
        order, x, y, u, v, px, py, pu, pv, *found, sums, params.contiguous(), form.codes, form.metric, form.diagonal, form.block,
        bool(wanted & PARAMS),
    )  # fmt: skip
    x_like, u_like = left.points, left.weights
    # In the place of a side that is not there stands an empty tensor like x.
    likes = (x_like, x_like, u_like, x_like) if right is None else (x_like, right.points, u_like, right.weights)
    return [like.new_empty(0) if g is None else g.to(like.dtype) for g, like in zip(found, likes, strict=True)], sums


def dot(x: Tensor, y: Tensor, v: Tensor, params: Tensor, form: Form) -> Tensor:
    """K(x, y) v, (N, E)."""
    if v.shape[1] == 0:
        return v.new_zeros(len(x), 0)
    return _sweep(0, Points(x, v.new_empty(len(x), v.shape[1])), Points(y, v), params, U, form)[0][2]


def first(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> First:
    """The sum over all pairs, and its derivatives."""
    (x, y, u, v), sums = _sweep(1, left, right, params, wanted, form)
    numbers = sums[1:].view(-1, 3).clone() if wanted & PARAMS else params.new_empty(0)
    return First(sums[0].clone(), x, y, u, v, numbers)


def second(left: Points, right: Points | None, params: Tensor, wanted: int, form: Form) -> Second:
    """Derivatives of the derivative along the tangents."""
    return Second(*_sweep(2, left, right, params, wanted, form)[0])
