"""The shape arithmetic of a convolution and its transpose, and the memory layout that their kernels take.

Of the two sides of a strided convolution one is small, (N, Cin, *small), and one large, (N, Cout, *large): a transposed
convolution goes from the small side to the large one, an ordinary one back. Weights are (Cin, Cout / groups, *kernel) in both
directions. In every dimension a small position i and a tap k meet the large position

    o = stride i - padding + dilation k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """How the two sides meet, by spatial dimension, of which there are 1 to 3. Only the transposed direction reads
    output_padding."""

    stride: Sequence[int]
    padding: Sequence[int]
    output_padding: Sequence[int]
    dilation: Sequence[int]
    groups: int = 1

    @property
    def dense(self) -> bool:
        """Neither grouped nor dilated."""
        return self.groups == 1 and all(d == 1 for d in self.dilation)

    def _least(self, small: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        rows = zip(small, kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((i - 1) * s - 2 * p + d * (k - 1) + 1 for i, k, s, p, d in rows)

    def large(self, small: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes that a transposed convolution makes of `small`."""
        return tuple(least + more for least, more in zip(self._least(small, kernel), self.output_padding, strict=True))

    def small(self, large: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes that an ordinary convolution makes of `large`."""
        rows = zip(large, kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((o + 2 * p - d * (k - 1) - 1) // s + 1 for o, k, s, p, d in rows)

    def reaching(self, small: Sequence[int], large: Sequence[int], kernel: Sequence[int]) -> "Geometry":
        """The same with the output_padding of which a transposed convolution makes `large` of `small`."""
        least = self._least(small, kernel)
        return self._replace(output_padding=tuple(o - i for o, i in zip(large, least, strict=True)))


def channels_last(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Fresh memory (N, C, *spatial) in which a position's channels lie together; for one and three spatial dimensions too."""
    n, c, *spatial = shape
    strides = [1] * (len(spatial) + 2)
    step = c
    for d in range(len(spatial) + 1, 1, -1):
        strides[d] = step
        step = step * spatial[d - 2]
    strides[0] = step
    return torch.empty_strided((n, c, *spatial), strides, dtype=dtype or like.dtype, device=like.device)


def dense(x: Tensor) -> Tensor:
    """x itself where it lies as `channels_last` would lay it, else a copy that does."""
    step, fits = x.shape[1], x.shape[1] == 1 or x.stride(1) == 1
    for d in (*range(x.ndim - 1, 1, -1), 0):
        fits = fits and (x.shape[d] == 1 or x.stride(d) == step)
        step *= x.shape[d]
    return x if fits else channels_last(x.shape, x).copy_(x)


def no_moments(like: Tensor) -> tuple[Tensor, Tensor]:
    """What stands for mean and variance where they are not asked for."""
    return like.new_empty(0, dtype=torch.float32), like.new_empty(0, dtype=torch.float32)
