"""Argument checks of public functions: each message names the argument, what it got and what it wants."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def floating(op: str, name: str, value: Any, device: torch.device | None = None) -> None:
    """`value` is a tensor of float32, float64, bfloat16 or float16, on `device` where that is given."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} got {type(value).__name__}, wants a tensor")
    if value.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} got {value.dtype}, wants float32, float64, bfloat16 or float16")
    if device is not None and value.device != device:
        raise ValueError(f"{op}: {name} got device {value.device}, wants {device}, where the first tensor is")


def number(op: str, name: str, value: Any, low: float = -float("inf"), high: float = float("inf")) -> float:
    """`value` as a float; it must be a number, not NaN, from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{op}: {name} got {type(value).__name__}, wants a number")
    if not low <= value <= high:
        raise ValueError(f"{op}: {name} got {value}, wants a number from {low} to {high}")
    return float(value)


def one_of(op: str, name: str, value: Any, names: Sequence[str]) -> None:
    """`value` is one of `names`."""
    if value not in names:
        raise ValueError(f"{op}: {name} got {value!r}, wants one of {', '.join(map(repr, names))}")
