"""Activations: what each pass needs of them, as a table."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.penalties.passes.node import Node

_aten = torch.ops.aten


class Act(NamedTuple):
    """One activation a(u) with its parameter p.

    value(u, p); over(u, p) the same written over u. slope(g, r, p, out): g a'(u); second(r, p): a''(u), None where the slope is
    piecewise constant. r is a(u) where from_output, else u.
    """

    value: Callable[[Tensor, float], Tensor]
    slope: Callable[[Tensor, Tensor, float, Tensor], Tensor]
    second: Callable[[Tensor, float], Tensor] | None = None
    over: Callable[[Tensor, float], Tensor] | None = None
    from_output: bool = True


def _silu2(u: Tensor, p: float) -> Tensor:
    s = u.sigmoid()
    return s * (1 - s) * (2 + u * (1 - 2 * s))


def _softplus2(u: Tensor, p: float) -> Tensor:
    s = u.sigmoid()
    return torch.where(u > 20, 0, s * (1 - s))


ACTS = {
    "relu": Act(
        lambda u, p: u.relu(),
        lambda g, y, p, out: _aten.threshold_backward.grad_input(g, y, 0, grad_input=out),
        over=lambda u, p: u.relu_(),
    ),
    "leaky_relu": Act(
        lambda u, p: _aten.leaky_relu(u, p),
        lambda g, y, p, out: _aten.leaky_relu_backward.grad_input(g, y, p, True, grad_input=out),
        over=lambda u, p: _aten.leaky_relu_(u, p),
    ),
    "elu": Act(
        lambda u, p: _aten.elu(u, p),
        lambda g, y, p, out: _aten.elu_backward.grad_input(g, p, 1, 1, True, y, grad_input=out),
        lambda y, p: torch.where(y > 0, 0, y + p),
        lambda u, p: _aten.elu_(u, p),
    ),
    "tanh": Act(
        lambda u, p: u.tanh(),
        lambda g, y, p, out: _aten.tanh_backward.grad_input(g, y, grad_input=out),
        lambda y, p: 2 * y * (y * y - 1),
        lambda u, p: u.tanh_(),
    ),
    "sigmoid": Act(
        lambda u, p: u.sigmoid(),
        lambda g, y, p, out: _aten.sigmoid_backward.grad_input(g, y, grad_input=out),
        lambda y, p: y * (1 - y) * (1 - 2 * y),
        lambda u, p: u.sigmoid_(),
    ),
    "silu": Act(
        lambda u, p: _aten.silu(u),
        lambda g, u, p, out: _aten.silu_backward.grad_input(g, u, grad_input=out),
        _silu2,
        from_output=False,
    ),
    "softplus": Act(
        lambda u, p: _aten.softplus(u),
        lambda g, u, p, out: _aten.softplus_backward.grad_input(g, u, 1, 20, grad_input=out),
        _softplus2,
        from_output=False,
    ),
}


class Activation(Node):
    """a(h), element by element."""

    fresh = False

    def __init__(self, name: str, parameter: float = 0.0) -> None:
        super().__init__()
        self.act, self.parameter = ACTS[name], parameter
        self.curved = self.act.second is not None  # type: ignore[misc]
        self.overwrites = self.act.over is not None  # type: ignore[misc]

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        run = self.act.over if overwrite and self.act.over is not None else self.act.value
        y = run(hs[0], self.parameter)
        self.kept = y if self.act.from_output else hs[0]
        return y

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g a'."""
        return self.act.slope(g, self.kept[rows], self.parameter, g if overwrite else torch.empty_like(self.kept[rows]))

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t a'."""
        assert ts[0] is not None
        return self.act.slope(ts[0], self.kept[rows], self.parameter, torch.empty_like(ts[0]) if out is None else out)

    def bend(self, delta: Tensor, ts: tuple[Tensor | None, ...], rows: slice) -> Tensor:
        """delta t a''."""
        assert self.act.second is not None
        return self.act.second(self.kept[rows], self.parameter).mul_(delta).mul_(ts[0])  # type: ignore[arg-type]
