"""The same three maps by PyTorch's convolutions, for what the kernels do not take: groups, dilation, float64, empty tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gancore.kernels._conv.geometry import Geometry, channels_last, dense, no_moments


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y (N, Cout, *large), and if asked for the mean and biased variance (Cout,) of its channels, float32."""
    stride, padding, more, dilation, groups = geometry
    size = geometry.large(x.shape[2:], w.shape[2:])
    if 0 in (x.numel(), w.numel(), *size):
        y = channels_last((len(x), w.shape[1] * groups, *size), x).zero_()
    else:
        y = dense(torch.ops.aten.convolution(x, w, None, stride, padding, dilation, True, more, groups))
    if not statistics:
        return y, *no_moments(y)
    var, mean = torch.var_mean(y.float(), [d for d in range(y.ndim) if d != 1], correction=0)
    return y, mean, var


def correlate(g: Tensor, w: Tensor, geometry: Geometry, size: Sequence[int]) -> Tensor:
    """(N, Cin, *size)."""
    stride, padding, _, dilation, groups = geometry
    if 0 in (g.numel(), w.numel(), *size):
        return channels_last((len(g), len(w), *size), g).zero_()
    y = torch.ops.aten.convolution(g, w, None, stride, padding, dilation, False, [0] * len(stride), groups)
    for d, n in enumerate(size):  # output_padding may leave room for more positions
        y = y.narrow(d + 2, 0, n)
    return dense(y)


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel: Sequence[int]) -> Tensor:
    """(Cin, Cout / groups, *kernel)."""
    stride, padding, _, dilation, groups = geometry
    shape = (x.shape[1], g.shape[1] // groups, *kernel)
    if 0 in (x.numel(), g.numel(), *shape):
        return channels_last(shape, x).zero_()
    more = geometry.reaching(x.shape[2:], g.shape[2:], kernel).output_padding
    sizes = x.new_empty(()).expand(shape)  # all that this derivative reads of the weights
    args = (None, stride, padding, dilation, True, more, groups, (False, True, False))
    return dense(torch.ops.aten.convolution_backward(g, x, sizes, *args)[1])
