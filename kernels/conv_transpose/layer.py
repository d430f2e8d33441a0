"""One layer: its arguments, checked, and its steps by each body."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gancore.kernels import _arguments, _conv, _dispatch, _layout
from gancore.kernels._activations import ACTS
from gancore.kernels._conv import Geometry, products
from gancore.kernels.batch_norm_act import public as norms
from gancore.kernels.batch_norm_act.operators import wide
from gancore.kernels.batch_norm_act.public import Norm
from gancore.kernels.bias_act import bias_act

CHAIN = "conv_transpose_chain"  # whose links tell their dimensions by their weights

_CONVOLUTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class ConvTransposeLink(NamedTuple):
    """One layer of a chain: the arguments of conv_transposeNd_bn_act other than x."""

    weight: Tensor
    bias: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    bn_weight: Tensor | None = None
    bn_bias: Tensor | None = None
    num_batches_tracked: Tensor | None = None
    training: bool = False
    momentum: float | None = 0.1
    eps: float = 1e-5
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: int = 1
    dilation: Any = 1
    act: str | None = "relu"
    slope: float = 0.2
    process_group: Any = None


class Layer(NamedTuple):
    """A layer whose arguments fit x. norm is None where nothing is normalised."""

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    norm: Norm | None
    act: str
    slope: float

    @property
    def dims(self) -> int:
        """Spatial dimensions."""
        return self.weight.ndim - 2

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Of the result."""
        channels = self.weight.shape[1] * self.geometry.groups
        return (x.shape[0], channels, *self.geometry.large(x.shape[2:], self.weight.shape[2:]))


def checked(op: str, x: Tensor, link: ConvTransposeLink) -> tuple[Tensor, Layer]:
    """x (N, C, ...) in the type that it is computed in, and the layer. Raises in the name of `op`."""
    dims = link.weight.ndim - 2 if op == CHAIN else _arguments.dims_of(op)
    x, weight, bias = _arguments.tensors(op, dims, x, link.weight, link.bias)
    batch = x if x.ndim == dims + 2 else x[None]
    groups = _arguments.groups(op, link.groups, x=batch.shape[1])
    if weight.shape[0] != batch.shape[1]:
        raise ValueError(f"{op}: weight got {weight.shape[0]} input channels, wants {batch.shape[1]}, as x has")
    channels = weight.shape[1] * groups
    _arguments.per_channel(op, "bias", bias, channels)
    norm = norms.checked(op, channels, x, _norm(link), ("bn_weight", "bn_bias"))
    normalises = norm.training or norm.running_mean is not None
    act, slope = _arguments.activation(op, link.act, link.slope)
    layer = Layer(weight, bias, _geometry(op, dims, link), norm if normalises else None, act, slope)
    shape = layer.shape(batch)
    if min(shape[2:]) < 1:
        raise ValueError(f"{op}: x got sizes {tuple(batch.shape[2:])}, wants larger ones: the result would have {shape[2:]}")
    norms.enough(op, shape, norm)
    return batch, layer


def _norm(link: ConvTransposeLink) -> Norm:
    return Norm(
        link.running_mean, link.running_var, link.bn_weight, link.bn_bias, link.num_batches_tracked, link.training, link.momentum,
        link.eps, link.process_group,
    )  # fmt: skip


def _geometry(op: str, dims: int, link: ConvTransposeLink) -> Geometry:
    fields = {name: _arguments.sizes(op, name, getattr(link, name), dims, least) for name, least in _SIZES}
    for more, stride, dilation in zip(fields["output_padding"], fields["stride"], fields["dilation"], strict=True):
        if more >= max(stride, dilation):
            raise ValueError(f"{op}: output_padding got {link.output_padding!r}, wants less than stride or dilation")
    return Geometry(**fields, groups=link.groups)


_SIZES = (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1))


def convolved(x: Tensor, layer: Layer, impl: str, statistics: bool = False) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The convolution without its bias, and by Triton this rank's mean and biased variance where `statistics` are wanted."""
    if impl == "triton":
        y, mean, var = _conv.transposed(x, layer.weight, layer.geometry, statistics)
        return (y, mean, var) if statistics else (y, None, None)
    way, kept = _way(layer, x), _layout.format_of(x)
    # Of a heavy weight it is the gradient that is a product.
    if way == "images" or (way == "heavy" and not (torch.is_grad_enabled() and layer.weight.requires_grad)):
        return by_library(x, layer, None), None, None
    pixel = way == "pixel"
    y = products.of_one_pixel(x, layer.weight) if pixel else _conv.transposed(x, layer.weight, layer.geometry, False, impl)[0]
    return y if kept == torch.contiguous_format and y.is_contiguous() else y.contiguous(memory_format=kept), None, None


def by_library(x: Tensor, layer: Layer, bias: Tensor | None) -> Tensor:
    """The convolution with `bias`, which the library adds for nothing."""
    g = layer.geometry
    return _CONVOLUTIONS[layer.dims](x, layer.weight, bias, g.stride, g.padding, g.output_padding, g.groups, g.dilation)


def biased(y: Tensor, norm: Norm, bias: Tensor | None) -> tuple[Tensor, Norm]:
    """A convolution that lacks its bias, and its normalisation, with it. In training the batch's mean is short of it alone."""
    if bias is None:
        return y, norm
    if norm.training:
        none = bias.to(wide(bias)) * 0  # with a derivative, which is 0
        return y, norm._replace(bias=none if norm.bias is None else norm.bias + none)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (y, bias, norm.weight)):
        return y + _layout.along(bias, y.ndim, 1), norm  # the mean has no derivative
    assert norm.running_mean is not None
    return y, norm._replace(running_mean=norm.running_mean.to(wide(y)) - bias)


def finished(y: Tensor, layer: Layer, impl: str) -> Tensor:
    """What follows the convolution where nothing is normalised."""
    if layer.bias is None and layer.act == "linear":
        return y
    return bias_act(y, layer.bias, 1, layer.act, layer.slope, impl=impl)


def run(x: Tensor, layer: Layer, impl: str) -> Tensor:
    """The layer by the kernels."""
    norm = layer.norm
    if norm is None:
        return finished(convolved(x, layer, impl)[0], layer, impl)
    statistics = norm.training and impl == "triton" and not norm.group and x.numel() > 0
    y, mean, var = convolved(x, layer, impl, statistics)
    known = None if mean is None or var is None else (mean, var)
    y, norm = biased(y, norm, layer.bias)
    return norms.normalised(y, norm, layer.act, layer.slope, impl, known, layer.bias)


_HUGE = 1 << 22  # elements that no cache holds: passes over them cost most


def shape_class(layer: Layer, x: Tensor) -> str:
    """The class of a layer in the dispatch table: normalised or not, where a CPU takes matrix products, and its result's size."""
    numel = torch.Size(layer.shape(x)).numel()
    size = "huge" if numel >= _HUGE else _dispatch.size_class(numel)
    return f"{'norm' if layer.norm is not None else 'plain'}/{_way(layer, x)}/{size}"


def _way(layer: Layer, x: Tensor) -> str:
    if products.one_pixel(x, layer.geometry):
        return "pixel"
    if products.few(layer.weight, layer.geometry):
        return "few"
    return "heavy" if products.heavy(layer.weight, layer.geometry, len(x), x.shape[2:]) else "images"


def reference(x: Tensor, layer: Layer) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device."""
    norm = layer.norm
    y = by_library(x, layer, None if norm is not None and norm.training else layer.bias)
    if norm is None:
        return ACTS[layer.act].reference(y, layer.slope)
    if not norm.training:
        return norms.plain(y, norm, layer.act, layer.slope)
    y, norm = biased(y, norm, layer.bias)
    return norms.plain(y, norm, layer.act, layer.slope, layer.bias)
