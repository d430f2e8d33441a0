"""Layer, group and instance normalisation.

With n = (h - mean) r, r = (variance + eps)^-1/2 over the M numbers that share statistics, and <.> their mean:

    J_n b            = r (b - <b> - n <n b>), symmetric, so that PyTorch's own backward without a weight is its tangent too
    d<u, J_n b> / dh = -r^2 (n (s - 3 p q) + q (u - <u>) + p (b - <b>)),   p = <n u>, q = <n b>, s = <(u - <u>)(b - <b>)>
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from gancore.penalties.passes.node import Curve, Node, added, format_of, keep_format, loss_adjoint

_aten = torch.ops.aten


class _Norm(Node):
    """weight * n(h) + bias."""

    curved = True
    h: Tensor
    slope: Tensor | None

    def __init__(self, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        super().__init__()
        self.operands = tuple(p for p in (weight, bias) if p is not None)
        self.weight, self.bias = (None if p is None else p.detach() for p in (weight, bias))
        self.eps = eps

    @abstractmethod
    def backward(self, g: Tensor, rows: slice, weight: Tensor | None) -> Tensor:
        """PyTorch's own gradient by h: J_n (weight g)."""

    @abstractmethod
    def parameters(self, g: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Gradients by weight and bias."""

    @abstractmethod
    def statistics(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Mean and r, wide enough for h."""

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Means of those numbers that share statistics, wide enough for x."""

    @abstractmethod
    def wide(self, weight: Tensor) -> Tensor:
        """The weight, wide enough for h."""

    @abstractmethod
    def narrow(self, x: Tensor) -> Tensor:
        """Sums over all that share a weight."""

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """J_n (weight g)."""
        return self.backward(g, rows, self.weight)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """weight J_n t."""
        assert ts[0] is not None
        slope = self.backward(ts[0], rows, None)
        self.slope = slope if self.operands else None  # d<delta, weight J_n t> / dweight needs it at once
        return slope if self.weight is None else (slope * self.wide(self.weight)).to(slope.dtype)

    def bend(self, delta: Tensor, ts: tuple[Tensor | None, ...], rows: slice) -> Tensor:
        """d<delta, weight J_n t> / dh."""
        type_ = torch.promote_types(delta.dtype, torch.float32)
        u = delta.to(type_) if self.weight is None else delta.to(type_) * self.wide(self.weight).to(type_)
        assert ts[0] is not None
        b = ts[0].to(type_)
        mean, r = (s.to(type_) for s in self.statistics(rows))
        n = (self.h[rows].to(type_) - mean) * r
        u, b = u - self.mean(u), b - self.mean(b)  # first, or s is a small difference of large numbers
        p, q, s = self.mean(n * u), self.mean(n * b), self.mean(u * b)
        minus = -r * r
        return n.mul_(minus * (s - 3 * p * q)).addcmul_(u, minus * q).addcmul_(b, minus * p).to(delta.dtype)

    def learn(self, curve: Curve, merged: set[int]) -> list[Tensor | None]:
        """As `Node.learn`."""
        assert self.delta is not None
        head = slice(0, curve.tail.start)
        found: list[Tensor | None] = [None, None]
        for g, rows in ((self.delta[head], head), (loss_adjoint(self.delta, curve), curve.tail)):
            if g is not None and len(g):
                found = [added(x, y) for x, y in zip(found, self.parameters(g, rows), strict=True)]
        if curve.tangent is not None and self.weight is not None and self.slope is not None:
            found[0] = added(found[0], self.narrow(self.delta[curve.tail] * self.slope))
        self.slope = None
        return [x for x, p in zip(found, (self.weight, self.bias), strict=True) if p is not None]

    def again(self, beta: Tensor, tail: slice) -> list[Tensor]:
        """As `Node.again`."""
        found = self.parameters(beta, tail)
        return [x for x, p in zip(found, (self.weight, self.bias), strict=True) if p is not None]


class LayerNorm(_Norm):
    """Over the last dimensions, of which `shape` are the sizes."""

    def __init__(self, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        super().__init__(weight, bias, eps)
        self.shape = shape

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        h = self.h = hs[0]
        # Statistics of whole samples: their numbers may be taken in any order, hence in that of memory.
        self.order = (
            (1, 2, 0) if h.dim() == 4 and len(self.shape) == 3 and h.is_contiguous(memory_format=torch.channels_last) else ()
        )
        x = self._view(h)
        self.sizes = list(x.shape[x.dim() - len(self.shape) :])
        y, self.mu, self.r = _aten.native_layer_norm(x, self.sizes, self._turn(self.weight), self._turn(self.bias), self.eps)
        return self._back(y)

    def backward(self, g: Tensor, rows: slice, weight: Tensor | None) -> Tensor:
        """In the order of memory."""
        return self._back(self._both(g, rows, weight, [True, False, False])[0])

    def parameters(self, g: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """In theirs."""
        _, by_weight, by_bias = self._both(g, rows, self.weight, [False, True, True])
        return self._unturn(by_weight), self._unturn(by_bias)

    def _both(self, g: Tensor, rows: slice, weight: Tensor | None, mask: list[bool]) -> tuple[Tensor, ...]:
        x, g = self._view(self.h[rows]).contiguous(), self._view(keep_format(g, self.h)).contiguous()
        by = (self._turn(weight), self._turn(self.bias), mask)
        return _aten.native_layer_norm_backward(g, x, self.sizes, self.mu[rows], self.r[rows], *by)

    def statistics(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Mean and r."""
        lead = self.h.dim() - len(self.shape)
        wide = [s[rows].reshape(*self.h[rows].shape[:lead], *[1] * len(self.shape)) for s in (self.mu, self.r)]
        return wide[0], wide[1]

    def mean(self, x: Tensor) -> Tensor:
        """Over the last dimensions."""
        return x.mean(tuple(range(-len(self.shape), 0)), keepdim=True)

    def wide(self, weight: Tensor) -> Tensor:
        """As it is; in h's order of memory."""
        return self._unturn(self._turn(weight))

    def narrow(self, x: Tensor) -> Tensor:
        """Over all leading dimensions."""
        return x.sum(tuple(range(x.dim() - len(self.shape))))

    def _view(self, h: Tensor) -> Tensor:
        return h.permute(0, 2, 3, 1) if self.order else h

    def _back(self, y: Tensor) -> Tensor:
        return y.permute(0, 3, 1, 2) if self.order else y

    def _turn(self, weight: Tensor | None) -> Tensor | None:
        return weight if weight is None or not self.order else weight.permute(self.order).contiguous()

    def _unturn(self, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return weight.permute(2, 0, 1) if self.order else weight


class GroupNorm(_Norm):
    """Over `groups` groups of channels; as many groups as channels are instance normalisation."""

    def __init__(self, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        super().__init__(weight, bias, eps)
        self.groups = groups

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        # Of the library's group norms the CPU's alone takes channels_last.
        kind = format_of(hs[0]) if hs[0].device.type == "cpu" else torch.contiguous_format
        self.h = hs[0].contiguous(memory_format=kind)
        y, self.mu, self.r = _aten.native_group_norm(self.h, self.weight, self.bias, *self._sizes(self.h), self.groups, self.eps)
        return y

    def backward(self, g: Tensor, rows: slice, weight: Tensor | None) -> Tensor:
        """In h's layout."""
        h = self.h[rows]
        g, mask = g.contiguous(memory_format=format_of(h)), [True, False, False]
        return _aten.native_group_norm_backward(g, h, self.mu[rows], self.r[rows], weight, *self._sizes(h), self.groups, mask)[0]

    def parameters(self, g: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """From the sums of g and g h by channel. The library's, asked for these alone on channels_last, end the process."""
        h = self.h[rows]
        spatial = tuple(range(2, h.dim()))
        gh, by_channel = ((x.sum(spatial) if spatial else x) for x in (g * h, g))
        mean, r = (s.flatten(1) for s in self.statistics(rows))
        return ((gh - by_channel * mean) * r).sum(0), by_channel.sum(0)

    def statistics(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Mean and r."""
        return self._spread(self.mu[rows]), self._spread(self.r[rows])

    def mean(self, x: Tensor) -> Tensor:
        """Over the channels of a group and all positions."""
        spatial = tuple(range(2, x.dim()))
        by_channel = x.mean(spatial) if spatial else x
        return self._spread(by_channel.unflatten(1, (self.groups, -1)).mean(2))

    def wide(self, weight: Tensor) -> Tensor:
        """Along the channels."""
        return weight.view(-1, *[1] * (self.h.dim() - 2))

    def narrow(self, x: Tensor) -> Tensor:
        """Sums by channel."""
        return x.sum([d for d in range(x.dim()) if d != 1])

    def _spread(self, s: Tensor) -> Tensor:
        return s.repeat_interleave(self.h.shape[1] // self.groups, 1).view(len(s), -1, *[1] * (self.h.dim() - 2))

    def _sizes(self, h: Tensor) -> tuple[int, int, int]:
        return h.shape[0], h.shape[1], math.prod(h.shape[2:])
