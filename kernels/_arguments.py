"""The arguments that convolutions share: sizes by dimension, types under autocast, an input without a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gancore.kernels import _check


def sizes(op: str, name: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    """`value`, an int or one for each dimension, as a tuple; each at least `least`."""
    each = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if any(isinstance(v, bool) or not isinstance(v, int | torch.SymInt) for v in each):
        raise TypeError(f"{op}: {name} got {value!r}, wants an int or {dims} of them")
    if len(each) == 1:
        each *= dims
    if len(each) != dims or any(v < least for v in each):
        raise ValueError(f"{op}: {name} got {value!r}, wants {dims} numbers from {least} on, or one")
    return each


def dims_of(op: str) -> int:
    """The spatial dimensions that an operator's name tells."""
    return next(int(c) for c in op if c.isdigit())


def tensors(op: str, dims: int, x: Any, weight: Any, bias: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias in the type that they are computed in: autocast's, else the one that they promote to."""
    _check.floating(op, "x", x)
    _check.floating(op, "weight", weight, x.device)
    if x.ndim not in (dims + 1, dims + 2):
        raise ValueError(f"{op}: x got {x.ndim} dimensions, wants {dims + 2}: (N, C, {dims} sizes), or {dims + 1} without N")
    if weight.ndim != dims + 2:
        raise ValueError(f"{op}: weight got {weight.ndim} dimensions, wants {dims + 2}")
    if bias is not None:
        _check.floating(op, "bias", bias, x.device)
    kind = torch.promote_types(x.dtype, weight.dtype)
    device = x.device.type
    if torch.is_autocast_enabled(device) and torch.float64 not in (x.dtype, weight.dtype):
        kind = torch.get_autocast_dtype(device)
    return x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
