"""The three maps on a CPU: as matrix products where the library's convolutions are slow, else by the library.

A row of such a product belongs to a position of the small side and holds, tap by tap, what it exchanges with the large side. Two
layers of a generator gain: the last, whose few output channels the library computes as many (each position's products with all
taps are one matrix product, added where they overlap: col2im), and the weight gradient of large weights on small images, which
the library spends on bringing weights into its own order (im2col). A third, of images of one pixel, is one product.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gancore.kernels import _layout, _native
from gancore.kernels._conv import library
from gancore.kernels._conv.geometry import Geometry, channels_last, dense
from gancore.kernels._conv.library import correlate as correlate

_FEW = 4  # output channels; from 8 on the library is as fast
_BLOCK = 1 << 20  # bytes of a block's products, which stay in a core's cache
_HEAVY = 1 << 20  # the least numbers of a weight whose gradient is a product; by so many as a 1024th of them


def available(x: Tensor) -> bool:
    """Whether x lies where these run."""
    return x.device.type == "cpu" and _native.missing(x.device) is None


def one_pixel(x: Tensor, geometry: Geometry) -> bool:
    """Whether a transposed convolution is one product: each output pixel sees one tap."""
    alone = all(n == 1 for n in x.shape[2:]) and not any(geometry.padding) and not any(geometry.output_padding)
    return alone and geometry.dense and x.numel() > 0


def of_one_pixel(x: Tensor, weight: Tensor) -> Tensor:
    """That product (N, Cout, *kernel), laid in memory as the weight is."""
    kernel = weight.shape[2:]
    if _layout.format_of(weight) == torch.contiguous_format:
        return (x.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
    last = weight.movedim(1, -1)
    return (x.flatten(1) @ last.flatten(1)).unflatten(1, (*kernel, weight.shape[1])).movedim(-1, 1)


def few(weight: Tensor, geometry: Geometry) -> bool:
    """Whether overlapping products make the large side."""
    return weight.shape[1] <= _FEW and geometry.dense and weight.numel() > 0


def heavy(weight: Tensor, geometry: Geometry, n: int, small: Sequence[int]) -> bool:
    """Whether the weight's gradient, for n images of the small side, is a product: in float32 for a quarter of the positions, since
    there the library's convolution is the faster one on larger images."""
    enough = n * math.prod(small) * (1 if weight.element_size() == 2 else 4)
    return weight.numel() >= _HEAVY and geometry.dense and 0 < enough <= weight.numel() // 1024


def _sizes(geometry: Geometry, small: Sequence[int], large: Sequence[int], kernel: Sequence[int]) -> Tensor:
    rest = 3 - len(small)
    rows = [[1] * rest + list(n) for n in (small, large, kernel, geometry.stride)] + [[0] * rest + list(geometry.padding)]
    return torch.tensor(rows, dtype=torch.int64)


def _blocks(x: Tensor, width: int) -> Iterator[tuple[slice, Tensor]]:
    """Some images, and their positions as rows of a matrix (positions, C), without a copy."""
    together = x.movedim(1, -1).is_contiguous()
    step = max(1, _BLOCK // (math.prod(x.shape[2:]) * width * x.element_size())) if together else 1
    for begin in range(0, len(x), step):
        part = x[begin : begin + step]
        yield slice(begin, begin + step), part.movedim(1, -1).reshape(-1, x.shape[1]) if together else part[0].flatten(1).t()


def transposed(x: Tensor, w: Tensor, geometry: Geometry, statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y (N, Cout, *large), and if asked for the mean and biased variance (Cout,) of its channels, float32."""
    if statistics or not few(w, geometry) or not x.numel():
        return library.transposed(x, w, geometry, statistics)
    small, kernel = x.shape[2:], w.shape[2:]
    large = geometry.large(small, kernel)
    y, none = channels_last((len(x), w.shape[1], *large), x), x.new_empty(0, dtype=torch.float32)
    matrix, sizes = w.movedim(1, -1).flatten(1), _sizes(geometry, small, large, kernel)
    overlap = _native.op("conv_overlap_native")
    for part, positions in _blocks(x, matrix.shape[1]):
        overlap(positions @ matrix, y[part], sizes, y.stride(0), y.stride(1), y.stride(-1))
    return y, none, none.clone()


def weight_gradient(x: Tensor, g: Tensor, geometry: Geometry, kernel: Sequence[int]) -> Tensor:
    """(Cin, Cout / groups, *kernel)."""
    small, large, (channels, columns) = x.shape[2:], g.shape[2:], (x.shape[1], g.shape[1])
    if not heavy(x.new_empty(()).expand(channels, columns, *kernel), geometry, len(x), small):
        return library.weight_gradient(x, g, geometry, kernel)
    rows = g.new_empty(len(x) * math.prod(small), math.prod(kernel) * columns)
    _native.op("conv_unfold_native")(dense(g), rows, _sizes(geometry, small, large, kernel), len(x), columns)
    positions = dense(x).movedim(1, -1).reshape(-1, channels)
    return (positions.t() @ rows).unflatten(1, (*kernel, columns)).movedim(-1, 1)
