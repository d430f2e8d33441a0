"""Steps without operands: views, pools, means, sums of branches. All are linear, or (maximum pooling) piecewise linear."""

from collections.abc import Callable

import torch
from torch import Tensor

from gancore.penalties.passes.node import Node, format_of, keep_format


class Reshape(Node):
    """Each sample's numbers in another shape; the same memory where it can be."""

    fresh = False

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.before = hs[0].shape[1:]
        self.format = format_of(hs[0])
        return hs[0].reshape(len(hs[0]), *self.sizes)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g in the shape before."""
        return g.reshape(len(g), *self.before).contiguous(memory_format=self.format)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t likewise."""
        assert ts[0] is not None
        return ts[0].reshape(len(ts[0]), *self.sizes)

    def shares(self) -> bool:
        """It may be a view of g."""
        return True


class Map(Node):
    """A linear map of each sample by itself, as PyTorch computes it; its adjoint is PyTorch's own."""

    fresh = False  # a permutation is a view

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        h = hs[0]
        self.like = h.shape[1:], h.dtype, format_of(h)
        return self.function(h)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """By PyTorch's derivative, at a point that does not matter."""
        sizes, dtype, kind = self.like
        at = torch.empty(len(g), *sizes, dtype=dtype, device=g.device, memory_format=kind).requires_grad_()
        with torch.enable_grad():
            y = self.function(at)
        return keep_format(torch.autograd.grad(y, at, g)[0], at)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """The map of t."""
        assert ts[0] is not None
        return self.function(ts[0])

    def shares(self) -> bool:
        """A permutation of g is a view of it."""
        return True


class Pool(Node):
    """Average pooling by the library's own derivative, which needs a point of h's sizes alone."""

    def __init__(self, dims: int, arguments: tuple) -> None:
        super().__init__()
        self.run = getattr(torch.ops.aten, f"avg_pool{dims}d")
        self.back = getattr(torch.ops.aten, f"avg_pool{dims}d_backward")
        self.arguments = arguments

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        h = hs[0]
        self.like = h.shape[1:], h.dtype, format_of(h)
        return self.run(h, *self.arguments)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """Each number of g to all that it is the mean of."""
        sizes, dtype, kind = self.like
        # Never read, so that no page of it is ever touched.
        at = torch.empty(len(g), *sizes, dtype=dtype, device=g.device, memory_format=kind)
        return self.back(g.contiguous(memory_format=kind), at, *self.arguments)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """The means of t."""
        return self.run(ts[0], *self.arguments)


class Mean(Node):
    """Sums over some dimensions of each sample, times a number."""

    def __init__(self, dims: tuple[int, ...], keep: bool, factor: float) -> None:
        super().__init__()
        self.dims, self.keep, self.factor = dims, keep, factor

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.sizes, self.format = hs[0].shape[1:], format_of(hs[0])
        return hs[0].sum(self.dims, keepdim=self.keep).mul_(self.factor)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g, spread."""
        g = g * self.factor
        for d in () if self.keep else sorted(self.dims):
            g = g.unsqueeze(d)
        return g.expand(len(g), *self.sizes).contiguous(memory_format=self.format)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """The same sums of t."""
        assert ts[0] is not None
        return ts[0].sum(self.dims, keepdim=self.keep).mul_(self.factor)


class Scale(Node):
    """h times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        return hs[0] * self.factor

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g times it."""
        return g.mul_(self.factor) if overwrite else g * self.factor

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t times it."""
        assert ts[0] is not None
        return ts[0] * self.factor


class Cast(Node):
    """h in another type."""

    fresh = False

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.before = hs[0].dtype
        return hs[0].to(self.dtype)

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g in the type before."""
        return g.to(self.before)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t in the type."""
        assert ts[0] is not None
        return ts[0].to(self.dtype)

    def shares(self) -> bool:
        """It may be g."""
        return True


class Sum(Node):
    """a + factor b, where one may be repeated to the other's shape."""

    overwrites = True

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factors = (1.0, factor)

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.sizes = [h.shape[1:] for h in hs]
        a, b = hs
        if overwrite and a.shape[1:] == torch.broadcast_shapes(*self.sizes):
            return a.add_(b, alpha=self.factors[1])
        return torch.add(a, b, alpha=self.factors[1])

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """g, summed where the input was repeated."""
        g = g if self.factors[i] == 1 else g * self.factors[i]
        return g.sum_to_size(len(g), *self.sizes[i])

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """The same sum of tangents."""
        a, b = ts
        if a is not None and b is not None:
            return torch.add(a, b, alpha=self.factors[1])
        t, factor = (a, 1.0) if a is not None else (b, self.factors[1])
        assert t is not None
        sizes = torch.broadcast_shapes(*self.sizes)
        return (t if factor == 1 else t * factor).expand(len(t), *sizes)

    def shares(self) -> bool:
        """Both inputs have g."""
        return True


class Concatenation(Node):
    """Tensors side by side along a dimension that is not the batch's; those that do not come from the points are given."""

    def __init__(self, parts: list[Tensor | None], dim: int) -> None:
        super().__init__()
        self.parts, self.dim = parts, dim

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        rest = iter(hs)
        y = torch.cat([next(rest) if p is None else p for p in self.parts], self.dim)
        rest, self.places, at = iter(hs), [], 0
        for p in self.parts:
            size = (next(rest) if p is None else p).shape[self.dim]
            if p is None:
                self.places.append((at, size))
            at += size
        return keep_format(y, hs[0])

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """The part of g that is this input's."""
        return keep_format(g.narrow(self.dim, *self.places[i]).contiguous(), g)

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """Tangents side by side, zero where the parts are given."""
        given = next(t for t in ts if t is not None)
        rest, found, places = iter(ts), [], iter(self.places)
        for p in self.parts:
            t = None
            if p is None:
                t, size = next(rest), next(places)[1]
            else:
                size = p.shape[self.dim]
            sizes = [*given.shape]
            sizes[self.dim] = size
            found.append(given.new_zeros(sizes) if t is None else t)
        return keep_format(torch.cat(found, self.dim), given)


class MaxPool(Node):
    """The largest of each window; the choice is that of the forward pass."""

    def __init__(self, dims: int, arguments: tuple) -> None:
        super().__init__()
        self.dims, self.arguments = dims, arguments

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y."""
        self.like = hs[0]
        y, self.chosen = getattr(torch.ops.aten, f"max_pool{self.dims}d_with_indices")(hs[0], *self.arguments)
        return y

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """Each number of g to the one that was chosen."""
        back = getattr(torch.ops.aten, f"max_pool{self.dims}d_with_indices_backward")
        return back(keep_format(g, self.like), self.like[rows], *self.arguments, self.chosen[rows])

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """t where h was largest."""
        assert ts[0] is not None
        chosen = self.chosen[rows]
        return keep_format(ts[0].flatten(2).gather(2, chosen.flatten(2)).view(chosen.shape), self.like)
