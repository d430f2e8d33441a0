"""The four passes over a tensor, by the native kernels; device.py has them for GPUs.

Tensors are dense and lie in memory alike. Coefficients are rows of (C,) in the type computed in: m, s, t with
u = s x + t, and, for the gradient in training, what is subtracted from it, an offset and a multiple of e.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _native
from gancore.kernels._activations import ACTS

_NUMBERS = {act: number for number, act in enumerate(ACTS)}


class Place(NamedTuple):
    """Where a channel lies (see _layout.channels), and the activation."""

    channels: int
    inner: int
    act: str
    slope: float


def moments(x: Tensor, channels: int, inner: int) -> tuple[Tensor, Tensor]:
    """Each channel's mean, and the sum of squares about it, (C,) in double."""
    found = x.new_empty(2, channels, dtype=torch.float64)
    _native.op("batch_norm_moments_native")(x, found, channels, inner)
    return found[0], found[1]


def coefficients(mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, by: Tensor) -> None:
    """Fills the first three rows of `by` from tensors of its type."""
    _native.op("batch_norm_act_coefficients_native")(mean, var, weight, bias, eps, by)


def gradients(
    added: Tensor, total: Tensor, count: int, var: Tensor, eps: float, by: Tensor, weight: Tensor, bias: Tensor
) -> None:  # fmt: skip
    """Those of weight and bias from a rank's sums; from all ranks' and their count the last two rows of `by`, if it has them."""
    _native.op("batch_norm_act_gradients_native")(added, total, float(count), var, eps, by, weight, bias)


def _form(place: Place) -> tuple[int, int, int, float]:
    return place.channels, place.inner, _NUMBERS[place.act], place.slope


def apply(x: Tensor, coefficients: Tensor, place: Place, out: Tensor) -> None:
    """out = act(u)."""
    _native.op("batch_norm_act_native")(x, coefficients, out, *_form(place))


def sums(g: Tensor, x: Tensor, coefficients: Tensor, place: Place) -> Tensor:
    """(2, C) in double: of d = g act'(u), and of d e."""
    found = x.new_empty(2, place.channels, dtype=torch.float64)
    _native.op("batch_norm_act_sums_native")(g, x, coefficients, found, *_form(place))
    return found


def gradient(g: Tensor, x: Tensor, coefficients: Tensor, place: Place, out: Tensor) -> None:
    """out = s d, less offset + multiple e in training. out may be g."""
    _native.op("batch_norm_act_grad_native")(g, x, coefficients, out, *_form(place))
