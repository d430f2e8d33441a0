"""Steps with operands: convolutions, linear layers, factors and summands. Each is linear in its input and in its operand."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels._conv import Geometry as Sides
from gancore.kernels._conv import products
from gancore.penalties.passes.node import CHANNELS_LAST, Curve, Node, along, loss_adjoint, merge

_aten = torch.ops.aten


class Geometry(NamedTuple):
    """Of a convolution, in the order of aten's own arguments."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class Product(Node):
    """y = w * h (+ b): a product that is linear in both, and perhaps a bias."""

    h: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.operands = (weight,) if bias is None else (weight, bias)
        self.weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.keep = False  # set by the plan: the last pass reads h, or what h is a view of

    @abstractmethod
    def product(self, g: Tensor, h: Tensor) -> Tensor:
        """The weight's gradient from output gradients g and inputs h."""

    @abstractmethod
    def total(self, g: Tensor) -> Tensor:
        """The bias's gradient from output gradients g."""

    def learn(self, curve: Curve, merged: set[int]) -> list[Tensor | None]:
        """As `Node.learn`."""
        assert self.delta is not None
        weight = self._learn_weight(self.delta, curve, merged) if self.operands[0].requires_grad else None
        found = [weight]
        if len(self.operands) > 1:
            found.append(self._learn_bias(self.delta, curve) if self.operands[1].requires_grad else None)
        return found

    def again(self, beta: Tensor, tail: slice) -> list[Tensor]:
        """As `Node.again`."""
        return [self.product(beta, self.h[tail]), self.total(beta)][: len(self.operands)]

    def _learn_weight(self, delta: Tensor, curve: Curve, merged: set[int]) -> Tensor:
        h, tail = self.h, curve.tail
        if not self.keep and merge(h, curve, merged):
            return self.product(delta, h)
        pairs = [(delta[: tail.start], h[: tail.start]), (loss_adjoint(delta, curve), h[tail]), (delta[tail], curve.tangent)]
        parts = [self.product(g, x) for g, x in pairs if g is not None and x is not None and len(g)]
        found = parts[0]
        for part in parts[1:]:
            found += part
        return found

    def _learn_bias(self, delta: Tensor, curve: Curve) -> Tensor:
        found = self.total(delta[: curve.tail.start])
        a = loss_adjoint(delta, curve)
        return found if a is None else found + self.total(a)


class Convolution(Product):
    """A convolution of any number of dimensions, transposed or not."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, geometry: Geometry) -> None:
        super().__init__(weight, bias, dtype)
        kind = CHANNELS_LAST.get(weight.dim())
        if kind is not None:  # once, where the library would do so at each call
            self.weight = self.weight.contiguous(memory_format=kind)
        self.geometry = geometry
        self.sides = Sides(geometry.stride, geometry.padding, geometry.output_padding, geometry.dilation, geometry.groups)
        self.quick = products.available(self.weight)

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.h = hs[0]
        return _aten.convolution(self.h, self.weight, self.bias, *self.geometry)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """The data gradient."""
        h, kernel = self.h[rows], self.weight.shape[2:]
        if self.quick and not self.geometry.transposed and products.few(self.weight, self.sides):
            return products.transposed(g, self.weight, self.sides.reaching(g.shape[2:], h.shape[2:], kernel), False)[0]
        return self._backward(g, h, [True, False, False])[0]

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """The convolution of t, without the bias."""
        return _aten.convolution(ts[0], self.weight, None, *self.geometry)

    def product(self, g: Tensor, h: Tensor) -> Tensor:
        """The weight gradient."""
        small, large = (h, g) if self.geometry.transposed else (g, h)
        if self.quick and products.heavy(self.weight, self.sides, len(small), small.shape[2:]):
            return products.weight_gradient(small, large, self.sides, self.weight.shape[2:])
        return self._backward(g, h, [False, True, False])[1]

    def total(self, g: Tensor) -> Tensor:
        """Sums by channel."""
        return g.sum([d for d in range(g.dim()) if d != 1])

    def _backward(self, g: Tensor, h: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
        return _aten.convolution_backward(g, h, self.weight, None, *self.geometry, mask)


class Linear(Product):
    """h w^T + b."""

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.h = hs[0]
        return torch.nn.functional.linear(self.h, self.weight, self.bias)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g w."""
        return g @ self.weight

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t w^T."""
        assert ts[0] is not None
        return torch.nn.functional.linear(ts[0], self.weight)

    def product(self, g: Tensor, h: Tensor) -> Tensor:
        """g^T h."""
        return g.flatten(0, -2).T @ h.flatten(0, -2)

    def total(self, g: Tensor) -> Tensor:
        """Sums by feature."""
        return g.flatten(0, -2).sum(0)


def _of(factor: Tensor, like: Tensor, rows: slice) -> Tensor:
    """The part of a factor that belongs to these rows: it has rows of its own, or is the same for all."""
    return factor[rows] if factor.dim() == like.dim() and factor.shape[0] != 1 else factor


def _placed(x: Tensor, tail: slice) -> Tensor:
    """x in its rows of the batch, zero elsewhere: where operands have rows, they are the batch's."""
    whole = x.new_zeros(tail.stop, *x.shape[1:])
    whole[tail] = x
    return whole


class Factor(Product):
    """h * w for a tensor that does not come from the points: a learned gain, a label's embedding, a constant mask."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(weight, None, dtype)

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.h = hs[0]
        return self.h * self.weight

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g w, summed where h was repeated."""
        return (g * _of(self.weight, g, rows)).sum_to_size(self.h[rows].shape)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t w."""
        assert ts[0] is not None
        return ts[0] * _of(self.weight, ts[0], rows)

    def _learn_weight(self, delta: Tensor, curve: Curve, merged: set[int]) -> Tensor:
        h, tail = self.h, curve.tail
        if not self.keep and merge(h, curve, merged):
            return (delta * h).sum_to_size(self.weight.shape)
        # Rows of a factor may be rows of the batch: they are added up once they stand together.
        parts = delta * h
        own = torch.zeros_like(parts[tail]) if curve.share is None else parts[tail] * along(curve.share, parts)
        if curve.tangent is not None:
            own += delta[tail] * curve.tangent
        parts[tail] = own
        return parts.sum_to_size(self.weight.shape)

    def again(self, beta: Tensor, tail: slice) -> list[Tensor]:
        """As `Node.again`."""
        return [_placed(beta * self.h[tail], tail).sum_to_size(self.weight.shape)]


class Summand(Node):
    """h + w for a tensor that does not come from the points."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.operands, self.weight = (weight,), weight.detach().to(dtype)

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        return hs[0] + self.weight

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g."""
        return g

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t."""
        assert ts[0] is not None
        return ts[0]

    def shares(self) -> bool:
        """Its adjoint is g."""
        return True

    def learn(self, curve: Curve, merged: set[int]) -> list[Tensor | None]:
        """As `Node.learn`."""
        assert self.delta is not None
        whole = torch.zeros_like(self.delta)
        whole[: curve.tail.start] = self.delta[: curve.tail.start]
        a = loss_adjoint(self.delta, curve)
        if a is not None:
            whole[curve.tail] = a
        return [whole.sum_to_size(self.weight.shape)]

    def again(self, beta: Tensor, tail: slice) -> list[Tensor]:
        """As `Node.again`."""
        return [_placed(beta, tail).sum_to_size(self.weight.shape)]
