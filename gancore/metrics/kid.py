"""Kernel inception distance (Binkowski et al. 2018, arXiv:1801.01401): unbiased squared MMD with k(a, b) = (a·b / D + 1)^3."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import FeatureNetwork, Score, both

_ROWS = 512


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
    All arithmetic is float64. Raises ValueError on too few samples, different D, NaN or inf, indices out of range.
    """
    a, b = both(x, y, network, batch)
    if subsets is None:
        return Score(polynomial_mmd2(a, b), 0.0)
    pairs = _draw(len(a), len(b), subsets, subset_size, seed) if isinstance(subsets, int) else _given(len(a), len(b), subsets)
    values = torch.tensor([polynomial_mmd2(a[i.to(a.device)], b[j.to(a.device)]) for i, j in pairs], dtype=torch.float64)
    return Score(float(values.mean()), float(values.std(correction=0)))


def polynomial_mmd2(x: Tensor, y: Tensor, degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> float:
    """U-statistic of MMD^2 with k(a, b) = (gamma a·b + coef0)^degree, in float64; its expectation is the population's value.

    mean over i != j of k(x_i, x_j) + the same of y - 2 mean over all i, j of k(x_i, y_j).
    x, y: features (N, D) and (M, D), at least 2 each; gamma is 1/D by default. No more than 512 rows of a kernel matrix exist
    at a time.
    """
    a, b = both(x, y, None, 1)
    scale = 1 / a.shape[1] if gamma is None else gamma

    def kernel_sum(p: Tensor, q: Tensor) -> Tensor:
        return torch.stack([(scale * part @ q.T + coef0).pow(degree).sum() for part in p.split(_ROWS)]).sum()

    def within(p: Tensor) -> Tensor:
        own = (scale * p.square().sum(1) + coef0).pow(degree).sum()
        return (kernel_sum(p, p) - own) / (len(p) * (len(p) - 1))

    return float(within(a) + within(b) - 2 * kernel_sum(a, b) / (len(a) * len(b)))


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
