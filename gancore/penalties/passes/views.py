"""Rules of functions that give each sample another shape, or mean and move its numbers. For their form see `rules`."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore.penalties.passes import shapes
from gancore.penalties.passes.record import Recorder


def cast(r: Recorder, x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in this type."""
    return x if x.dtype == dtype else r.emit(shapes.Cast(dtype), x, dtype=dtype)


def stand_in(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What a function makes of shapes and types."""
    with torch.no_grad():
        return function(x.detach(), *args, **kwargs)


def sizes_of(value: Any, dims: int) -> list[int]:
    """A number a dimension."""
    found = [value] if isinstance(value, int) else list(value)
    return found * dims if len(found) == 1 else found


def reshape(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A view or copy in another shape, which keeps samples apart."""
    y = stand_in(function, input, *args, **kwargs)
    if y.shape == input.shape and y.dtype == input.dtype:
        return input
    if not y.dim() or len(y) != r.rows:
        r.refuse(f"reshapes {tuple(input.shape)} to {tuple(y.shape)}, in which samples do not stand apart")
    found = r.emit(shapes.Reshape(tuple(y.shape[1:])), input, sizes=y.shape)
    r.owners[r.index(found)] = r.index(input)  # type: ignore[index, assignment]
    return found


def copied(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Copies and changes of layout, which are nothing here, or of type."""
    probe = torch.empty([0] * input.dim(), dtype=input.dtype, device=r.device)
    return cast(r, input, function(probe, *args, **kwargs).dtype)


def getitem(r: Recorder, input: Tensor, index: Any) -> Tensor:
    """Slices of each sample."""
    parts = index if isinstance(index, tuple) else (index,)
    if parts[0] != slice(None) or not all(isinstance(p, (int, slice)) or p is None or p is Ellipsis for p in parts):
        r.refuse("picks samples, or picks by tensors")
    y = mapped(r, torch.Tensor.__getitem__, input, index)
    r.owners[r.index(y)] = r.index(input)  # type: ignore[index, assignment]
    return y


def mapped(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A linear map of the last dimensions."""
    y = stand_in(function, input, *args, **kwargs)
    return r.emit(shapes.Map(partial(_apply, function, args, kwargs)), input, sizes=y.shape, dtype=y.dtype)


def _apply(function: Callable[..., Tensor], args: tuple, kwargs: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *args, **kwargs)


def turned(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Permutations that leave the batch where it is, and its samples in order."""
    sizes = list(range(2, input.dim() + 2))  # all different, so that it shows where each dimension goes
    with torch.no_grad():
        moved = function(torch.empty(sizes, device="meta"), *args, **kwargs).shape
    if moved[0] != 2:
        r.refuse("moves the batch's dimension")
    y = mapped(r, function, input, *args, **kwargs)
    r.owners[r.index(y)] = r.index(input)  # type: ignore[index, assignment]
    return y


def pad(r: Recorder, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Zeros around, or values of the sample itself."""
    if value:
        r.refuse(f"pads with {value}")
    return mapped(r, F.pad, input, tuple(pad), mode)


def interpolate(r: Recorder, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Upsampling."""
    if kwargs.get("mode") in ("area",):
        r.refuse("interpolates by area")
    return mapped(r, F.interpolate, input, *args, **kwargs)


def avg_pool(r: Recorder, dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
              count_include_pad: bool = True, divisor_override: Any = None) -> Tensor:  # fmt: skip
    """Means of windows."""
    sides = [sizes_of(v, dims) for v in (kernel_size, stride if stride not in (None, []) else kernel_size, padding)]
    arguments = (*sides, ceil_mode, count_include_pad, *(() if dims == 1 else (divisor_override,)))
    function = getattr(torch.ops.aten, f"avg_pool{dims}d")
    y = stand_in(function, input, *arguments)
    node: Any = (
        shapes.Pool(dims, arguments) if dims > 1 and input.dim() == dims + 2 else shapes.Map(lambda x: function(x, *arguments))
    )
    return r.emit(node, input, sizes=y.shape)


def max_pool(r: Recorder, dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
              ceil_mode: bool = False, return_indices: bool = False) -> Tensor:  # fmt: skip
    """Maxima of windows."""
    if return_indices or input.dim() != dims + 2:
        r.refuse("wants the places of maxima, or has no batch")
    sides = [sizes_of(v, dims) for v in (kernel_size, stride if stride not in (None, []) else kernel_size, padding, dilation)]
    if dims == 1:
        x = reshape(r, torch.unsqueeze, input, 2)
        kernel, step, around, apart = ([neutral, *side] for side, neutral in zip(sides, (1, 1, 0, 1), strict=True))
        y = max_pool(r, 2, x, kernel, step, around, apart, ceil_mode)
        return reshape(r, torch.squeeze, y, 2)
    y, _ = getattr(torch.ops.aten, f"max_pool{dims}d_with_indices")(input.detach(), *sides, ceil_mode)
    return r.emit(shapes.MaxPool(dims, (*sides, ceil_mode)), input, sizes=y.shape)


def total(r: Recorder, mean: bool, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sums and means over dimensions of each sample."""
    dims = () if dim is None else tuple(d % input.dim() for d in ([dim] if isinstance(dim, int) else dim))
    if not dims or 0 in dims:
        r.refuse("sums over the batch")
    x = input if dtype is None else cast(r, input, dtype)
    sizes = [1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims]
    factor = 1 / math.prod(x.shape[d] for d in dims) if mean else 1.0
    return r.emit(shapes.Mean(dims, keepdim, factor), x, sizes=sizes)
