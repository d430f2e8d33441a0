"""The registered operators of the three maps, and their derivatives, which are one another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from gancore.kernels._conv import device, library, products
from gancore.kernels._conv.geometry import Geometry, channels_last
from gancore.kernels._grad import bilinear


def _body(impl: str, geometry: Geometry, *tensors: Tensor, sizes: Sequence[int] = ()) -> Any:
    """The module of the maps for these tensors; sizes: of a result."""
    if impl == "native":
        return products
    fits = geometry.dense and 0 not in sizes and all(t.dtype != torch.float64 and 0 not in t.shape for t in tensors)
    return device if fits else library


@custom_op("gancore::conv_transposed", mutates_args=())
def _transposed(
    x: Tensor, w: Tensor, statistics: bool,
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    sizes = geometry.large(x.shape[2:], w.shape[2:])
    found: tuple[Tensor, Tensor, Tensor] = _body(impl, geometry, x, w, sizes=sizes).transposed(x, w, geometry, statistics)
    return found


@custom_op("gancore::conv_correlate", mutates_args=())
def _correlate(
    g: Tensor, w: Tensor, size: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
    impl: str,
) -> Tensor:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    found: Tensor = _body(impl, geometry, g, w, sizes=size).correlate(g, w, geometry, size)
    return found


@custom_op("gancore::conv_weight_gradient", mutates_args=())
def _weight_gradient(
    x: Tensor, g: Tensor, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int], dilation: Sequence[int], groups: int,
    impl: str,
) -> Tensor:  # fmt: skip
    geometry = Geometry(stride, padding, output_padding, dilation, groups)
    found: Tensor = _body(impl, geometry, x, g).weight_gradient(x, g, geometry, kernel)
    return found


@_transposed.register_fake
def _(x: Tensor, w: Tensor, statistics: bool, *form: Any) -> tuple[Tensor, Tensor, Tensor]:
    geometry = Geometry(*form[:-1])
    columns = w.shape[1] * geometry.groups
    y = channels_last((x.shape[0], columns, *geometry.large(x.shape[2:], w.shape[2:])), x)
    mean, var = (x.new_empty(columns if statistics else 0, dtype=torch.float32) for _ in range(2))
    return y, mean, var


@_correlate.register_fake
def _(g: Tensor, w: Tensor, size: Sequence[int], *form: Any) -> Tensor:
    return channels_last((g.shape[0], w.shape[0], *size), g)


@_weight_gradient.register_fake
def _(x: Tensor, g: Tensor, kernel: Sequence[int], *form: Any) -> Tensor:
    return channels_last((x.shape[1], g.shape[1] // form[-2], *kernel), x)


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool, impl: str = "triton") -> tuple[Tensor, Tensor, Tensor]:
    """The transposed convolution y (N, Cout, *large) of x (N, Cin, *small) with w (Cin, Cout / groups, *kernel); with statistics
    the mean and biased variance (Cout,) of y over all but its channels, else two tensors (0,).

    x and w: float32, bfloat16, float16 or float64, of one type, any layout. y: of that type, laid with a position's channels
    together. Mean and variance: float32, those of y as it was rounded, taken tile by tile and merged, with no derivative here.
    impl: "triton" or, on a CPU, "native".
    """
    y, mean, var = _transposed_call(x, w, statistics, *geometry, impl)
    return y, mean, var


def correlate(g: Tensor, w: Tensor, geometry: Geometry, size: Sequence[int], impl: str = "triton") -> Tensor:
    """The convolution (N, Cin, *size) of g (N, Cout, *large) with w (Cin, Cout / groups, *kernel): the derivative of `transposed`
    in x, or a layer of its own. size: `geometry.small` of g, or that of an x of which `transposed` makes g's."""
    found: Tensor = _correlate_call(g, w, tuple(size), *geometry, impl)
    return found


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel_size: Sequence[int], impl: str = "triton") -> Tensor:
    """The derivative (Cin, Cout / groups, *kernel_size) of <transposed(x, w), g>, and so of <x, correlate(g, w)>, in w."""
    found: Tensor = _weight_gradient_call(x, g, tuple(kernel_size), *geometry, impl)
    return found


# What follows has the form (*geometry, impl).


def _small_side(large: Tensor, w: Tensor, like: Sequence[int], *form: Any) -> Tensor:
    return correlate(large, w, Geometry(*form[:-1]), like[2:], form[-1])


def _large_side(small: Tensor, w: Tensor, like: Sequence[int], *form: Any) -> Tensor:
    geometry = Geometry(*form[:-1]).reaching(small.shape[2:], like[2:], w.shape[2:])
    return transposed(small, w, geometry, False, form[-1])[0]


def _weights(small: Tensor, large: Tensor, like: Sequence[int], *form: Any) -> Tensor:
    return weight_gradient(small, large, Geometry(*form[:-1]), like[2:], form[-1])


# Each: the derivative in the first tensor, then in the second, from the gradient, the other tensor and the shape of their own.
_transposed_call = bilinear(
    _transposed,
    lambda g, w, like, _, *form: _small_side(g, w, like, *form),
    lambda g, x, like, _, *form: _weights(x, g, like, *form),
)
_correlate_call = bilinear(
    _correlate,
    lambda g, w, like, _, *form: _large_side(g, w, like, *form),
    lambda g, large, like, _, *form: _weights(g, large, like, *form),
)
_weight_gradient_call = bilinear(
    _weight_gradient,
    lambda g, large, like, _, *form: _small_side(large, g, like, *form),
    lambda g, x, like, _, *form: _large_side(x, g, like, *form),
)
