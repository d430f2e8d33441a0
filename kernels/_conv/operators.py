"""The registered operators of the three maps, and their derivatives, which are one another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from gancore.kernels._conv import device, library
from gancore.kernels._conv.geometry import Geometry, channels_last
from gancore.kernels._grad import bilinear


def _kernels_take(geometry: Geometry, *tensors: Tensor) -> bool:
    return geometry.dense and all(t.dtype != torch.float64 and 0 not in t.shape for t in tensors)


@custom_op("gancore::conv_transposed", mutates_args=())
def _transposed(
    x: Tensor, w: Tensor, statistics: bool,
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    body = device if _kernels_take(geometry, x, w) and 0 not in geometry.large(x.shape[2:], w.shape[2:]) else library
    return body.transposed(x, w, geometry, statistics)


@custom_op("gancore::conv_correlate", mutates_args=())
def _correlate(
    g: Tensor, w: Tensor, size: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    body = device if _kernels_take(geometry, g, w) and 0 not in size else library
    return body.correlate(g, w, geometry, size)


@custom_op("gancore::conv_weight_gradient", mutates_args=())
def _weight_gradient(
    x: Tensor, g: Tensor, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    body = device if _kernels_take(geometry, x, g) else library
    return body.weight_gradient(x, g, geometry, kernel)


@_transposed.register_fake
def _(x: Tensor, w: Tensor, statistics: bool, *form: Any) -> tuple[Tensor, Tensor, Tensor]:
    geometry = Geometry(*form)
    columns = w.shape[1] * geometry.groups
    y = channels_last((x.shape[0], columns, *geometry.large(x.shape[2:], w.shape[2:])), x)
    mean, var = (x.new_empty(columns if statistics else 0, dtype=torch.float32) for _ in range(2))
    return y, mean, var


@_correlate.register_fake
def _(g: Tensor, w: Tensor, size: Sequence[int], *form: Any) -> Tensor:
    return channels_last((g.shape[0], w.shape[0], *size), g)


@_weight_gradient.register_fake
def _(x: Tensor, g: Tensor, kernel: Sequence[int], *form: Any) -> Tensor:
    return channels_last((x.shape[1], g.shape[1] // Geometry(*form).groups, *kernel), x)


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The transposed convolution y (N, Cout, *large) of x (N, Cin, *small) with w (Cin, Cout / groups, *kernel); with statistics
    the mean and biased variance (Cout,) of y over all but its channels, else two tensors (0,).

    x and w: float32, bfloat16, float16 or float64, of one type, any layout. y: of that type, laid with a position's channels
    together. Mean and variance: float32, those of y as it was rounded, taken tile by tile and merged, with no derivative here.
    """
    y, mean, var = _transposed_call(x, w, statistics, *geometry)
    return y, mean, var


def correlate(g: Tensor, w: Tensor, geometry: Geometry, size: Sequence[int]) -> Tensor:
    """The convolution (N, Cin, *size) of g (N, Cout, *large) with w (Cin, Cout / groups, *kernel): the derivative of `transposed`
    in x, or a layer of its own. size: `geometry.small` of g, or that of an x of which `transposed` makes g's."""
    found: Tensor = _correlate_call(g, w, tuple(size), *geometry)
    return found


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel_size: Sequence[int]) -> Tensor:
    """The derivative (Cin, Cout / groups, *kernel_size) of <transposed(x, w), g>, and so of <x, correlate(g, w)>, in w."""
    found: Tensor = _weight_gradient_call(x, g, tuple(kernel_size), *geometry)
    return found


def _large_side(x: Tensor, w: Tensor, like: Sequence[int], *form: Any) -> Tensor:
    geometry = Geometry(*form).reaching(x.shape[2:], like[2:], w.shape[2:])
    return transposed(x, w, geometry, False)[0]


# Each: the derivative in the first tensor, then in the second, from the gradient, the other tensor and the shape of their own.
_transposed_call = bilinear(
    _transposed,
    lambda g, w, like, _, *form: correlate(g, w, Geometry(*form), like[2:]),
    lambda g, x, like, _, *form: weight_gradient(x, g, Geometry(*form), like[2:]),
)
_correlate_call = bilinear(
    _correlate,
    lambda g, w, like, _, *form: _large_side(g, w, like, *form),
    lambda g, large, like, _, *form: weight_gradient(g, large, Geometry(*form), like[2:]),
)
_weight_gradient_call = bilinear(
    _weight_gradient,
    lambda g, large, like, _, *form: correlate(large, g, Geometry(*form), like[2:]),
    lambda g, x, like, _, *form: _large_side(x, g, like, *form),
)
