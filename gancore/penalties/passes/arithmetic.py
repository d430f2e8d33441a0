"""Rules of sums and products. For their form see `rules`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gancore.penalties.passes import shapes, views
from gancore.penalties.passes.products import Factor, Summand
from gancore.penalties.passes.record import Recorder


def constant(r: Recorder, *points: Any) -> None:
    """Refuse operands that come from the points themselves."""
    for x in points:
        if r.index(x) is not None:
            r.refuse("multiplies values that both depend on the points")


def over(r: Recorder, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    """A step that writes its result over x: from here on, x stands for that."""
    if r.index(x) in r.owners or r.index(x) in r.owners.values():
        r.refuse("writes over a tensor of which there may be views")
    y = step(x)
    x._place = y._place  # type: ignore[attr-defined]
    return x


def add(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """a + alpha b."""
    if r.index(input) is None:
        return add(r, scaled(r, other, alpha), input)
    if r.index(other) is None:
        w = torch.as_tensor(other, device=r.device) * alpha
        return _joint(r, Summand, input, w)
    dtype = torch.promote_types(input.dtype, other.dtype)
    a, b = views.cast(r, input, dtype), views.cast(r, other, dtype)
    return r.emit(shapes.Sum(float(alpha)), a, b, sizes=torch.broadcast_shapes(a.shape, b.shape))


def _joint(r: Recorder, node: Callable[..., Any], x: Tensor, w: Tensor) -> Tensor:
    """x with a tensor that is none of the points' values."""
    sizes = torch.broadcast_shapes(x.shape, w.shape)
    if node is Summand and sizes != x.shape:
        x = views.mapped(r, torch.Tensor.expand, x, -1, *sizes[1:]) if len(sizes) == x.dim() else x
    if len(sizes) != x.dim() or (node is Summand and sizes != x.shape):
        r.refuse(f"combines shapes {tuple(x.shape)} and {tuple(w.shape)}")
    dtype = torch.result_type(torch.empty(1, dtype=x.dtype), w.detach().cpu() if w.dim() == 0 else torch.empty(1, dtype=w.dtype))
    x = views.cast(r, x, dtype)
    return r.emit(node(w, dtype), x, sizes=sizes)


def scaled(r: Recorder, x: Tensor, factor: float) -> Tensor:
    """x times a number."""
    return x if factor == 1 else r.emit(shapes.Scale(float(factor)), x)


def subtract(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """a - alpha b."""
    return add(r, input, other, alpha=-alpha)


def subtract_from(r: Recorder, input: Any, other: Any) -> Tensor:
    """b - a."""
    return subtract(r, other, input)


def negative(r: Recorder, input: Tensor) -> Tensor:
    """-a."""
    return scaled(r, input, -1.0)


def add_over(r: Recorder, input: Tensor, other: Any) -> Tensor:
    """a += b."""
    return over(r, input, lambda x: add(r, x, other))


def multiply(r: Recorder, input: Any, other: Any) -> Tensor:
    """a b, one of which does not come from the points."""
    if r.index(input) is None:
        input, other = other, input
    constant(r, other)
    return scaled(r, input, other) if isinstance(other, (int, float)) else _joint(r, Factor, input, other)


def divide(r: Recorder, input: Any, other: Any) -> Tensor:
    """a / b, of which b does not come from the points."""
    constant(r, other)
    return scaled(r, input, 1 / other) if isinstance(other, (int, float)) else _joint(r, Factor, input, 1 / other)


def concatenate(r: Recorder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Side by side."""
    dim = dim % tensors[0].dim()
    given = [x for x in tensors if r.index(x) is None]
    if dim == 0 or any(x.requires_grad for x in given):
        r.refuse("joins samples" if dim == 0 else "joins points with learned values")
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    parts = [None if r.index(x) is not None else x.to(dtype) for x in tensors]
    inputs = [views.cast(r, x, dtype) for x in tensors if r.index(x) is not None]
    sizes = list(tensors[0].shape)
    sizes[dim] = sum(x.shape[dim] for x in tensors)
    return r.emit(shapes.Concatenation(parts, dim), *inputs, sizes=sizes)


def dropout(r: Recorder, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Nothing in evaluation."""
    if training and p:
        r.refuse("drops values by chance")
    return input
