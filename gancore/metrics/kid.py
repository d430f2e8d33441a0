"""Kernel inception distance (Binkowski et al. 2018, arXiv:1801.01401): unbiased squared MMD with k(a, b) = (a·b / D + 1)^3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import FeatureNetwork, Score, as_given, both

if TYPE_CHECKING:  # the operators load Triton, which other metrics need not wait for
    from gancore.kernels import Kernel


@metric
def kid(
    x: Tensor,
    y: Tensor,
    *,
    subsets: int | Sequence[tuple[Tensor, Tensor]] | None = 100,
    subset_size: int = 1000,
    seed: int = 0,
    network: FeatureNetwork | None = None,
    batch: int = 256,
) -> Score:
    """Unbiased squared MMD between samples x and data y: mean and standard deviation over subsets. May be negative.

    x, y: features (N, D) and (M, D), or images (N, C, H, W) in [-1, 1] with `network`.
    subsets: how many pairs of subsets of `subset_size` to draw (each without repetition, seeded); or the pairs themselves, as
        index tensors (i, j) into x and y; or None: the U-statistic of all samples at once, its standard deviation given as 0.
    Products are formed in the type of the features (float32 for 16 bits) and sums in float64: of float32 features of size 1 the
    result is that of float64 within 1e-6. Memory beyond x and y is that of one pair of subsets and a few of its rows' products.
    Raises ValueError on too few samples, different D, NaN or inf, indices out of range.
    """
    from gancore.kernels import polynomial

    a, b = both(x, y, network, batch, read=as_given)
    if subsets is None:
        return Score(_mmd2(a, b, polynomial()), 0.0)
    pairs = _draw(len(a), len(b), subsets, subset_size, seed) if isinstance(subsets, int) else _given(len(a), len(b), subsets)
    rows_x, rows_y = a.new_empty(0), b.new_empty(0)
    values = torch.tensor(
        [_mmd2(_rows(a, i, rows_x), _rows(b, j, rows_y), polynomial()) for i, j in pairs], dtype=torch.float64
    )
    return Score(float(values.mean()), float(values.std(correction=0)))


def polynomial_mmd2(x: Tensor, y: Tensor, degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> float:
    """U-statistic of MMD^2 with k(a, b) = (gamma a·b + coef0)^degree; its expectation is the population's value.

    mean over i != j of k(x_i, x_j) + the same of y - 2 mean over all i, j of k(x_i, y_j).
    x, y: features (N, D) and (M, D), at least 2 each; gamma is 1/D by default. Arithmetic, memory and errors as of `kid`; no
    kernel matrix is stored where the native or Triton body of `gancore.kernels.mmd2` runs.
    """
    from gancore.kernels import polynomial

    a, b = both(x, y, None, 1, read=as_given)
    return _mmd2(a, b, polynomial(degree, gamma, coef0))


@torch.no_grad()
def _mmd2(a: Tensor, b: Tensor, kernel: Kernel) -> float:
    from gancore.kernels import mmd2

    if a.dtype != torch.float64:
        a, b = a.float(), b.float()
    return float(mmd2(a, b, kernel, precision="highest"))


def _rows(x: Tensor, index: Tensor, kept: Tensor) -> Tensor:
    """Rows `index` of x, in the memory of `kept`, which grows to hold them."""
    return torch.index_select(x, 0, index.to(x.device), out=kept.resize_(len(index), x.shape[1]))


def _draw(n: int, m: int, subsets: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    if subsets < 1:
        raise ValueError(f"subsets: wants at least 1, got {subsets}")
    if not 2 <= size <= min(n, m):
        raise ValueError(f"subset_size: wants 2 to {min(n, m)} (x has {n} samples, y has {m}), got {size}")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(subsets):
        yield torch.randperm(n, generator=generator)[:size], torch.randperm(m, generator=generator)[:size]


def _given(n: int, m: int, subsets: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    if not subsets:
        raise ValueError("subsets: wants at least one pair of index sets, got none")
    pairs = [(torch.as_tensor(i), torch.as_tensor(j)) for i, j in subsets]
    for k, pair in enumerate(pairs):
        for index, size, name in zip(pair, (n, m), ("x", "y"), strict=True):
            if index.dim() != 1 or len(index) < 2 or index.is_floating_point() or index.dtype == torch.bool:
                got = f"{index.dtype} of shape {tuple(index.shape)}"
                raise ValueError(f"subsets[{k}]: wants at least 2 integer indices into {name}, got {got}")
            if int(index.min()) < 0 or int(index.max()) >= size:
                got = f"{int(index.min())} to {int(index.max())}"
                raise ValueError(f"subsets[{k}]: wants indices from 0 to {size - 1} into {name}, got {got}")
    return pairs
