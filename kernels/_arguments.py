"""The arguments that operators share: activations; of convolutions sizes by dimension, groups, and types under autocast."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gancore.kernels import _check
from gancore.kernels._activations import ACTS


def activation(op: str, act: Any, slope: Any) -> tuple[str, float]:
    """The activation's name, "linear" for None, and its slope."""
    act = act or "linear"
    _check.one_of(op, "act", act, tuple(ACTS))
    return act, _check.number(op, "slope", slope)


def range_of(op: str, gain: Any, clamp: Any) -> tuple[float, float | None]:
    """The factor after an activation, and the bound after that."""
    factor = 1.0 if gain is None else _check.number(op, "gain", gain)
    return factor, None if clamp is None else _check.number(op, "clamp", clamp, 0.0)


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


def groups(op: str, value: Any, **channels: int) -> int:
    """`value` as it is; it must divide the channels of each."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or any(c % value for c in channels.values()):
        wanted = " and ".join(f"the {c} channels of {name}" for name, c in channels.items())
        raise ValueError(f"{op}: groups got {value!r}, wants a divisor of {wanted}")
    return value


def per_channel(op: str, name: str, value: Tensor | None, channels: int) -> None:
    """`value` is None or has one number for each channel of the result."""
    if value is not None and value.shape != (channels,):
        raise ValueError(f"{op}: {name} got shape {tuple(value.shape)}, wants ({channels},), one for each channel of the result")


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
