"""Two samples: a bandwidth for them, and a test of whether they are of one distribution."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gancore.kernels.kernel_sums import reference
from gancore.kernels.kernel_sums.kernel import DOT, Kernel, pack
from gancore.kernels.kernel_sums.sums import checked, kernel_dot, points


def median_bandwidth(x: Tensor, y: Tensor, sample: int = 1000, *, seed: int = 0) -> Tensor:
    """The median Euclidean distance (not squared) between different samples of x (N, D) and y (M, D) together, scalar.

    Of more than `sample` samples that many are drawn, seeded, without repetition. Differentiable nowhere: the result is detached.
    Raises ValueError for fewer than two samples (Gretton et al. 2012, section 8, take this for the bandwidth).
    """
    (a, b), dtype = points("median_bandwidth", x=x, y=y)
    pooled = torch.cat([a, b]).detach()
    if isinstance(sample, bool) or not isinstance(sample, int):
        raise TypeError(f"median_bandwidth: sample got {type(sample).__name__}, wants an int")
    if sample < 2 or len(pooled) < 2:
        raise ValueError(f"median_bandwidth: sample got {min(sample, len(pooled))} samples, wants at least 2")
    if len(pooled) > sample:
        chosen = torch.randperm(len(pooled), generator=Generator().manual_seed(seed))[:sample]
        pooled = pooled[chosen.to(pooled.device)]
    distances: Tensor = torch.nn.functional.pdist(pooled - reference.shift(pooled))
    # torch.median takes the lower of two middle values.
    middle = distances.sort().values[(len(distances) - 1) // 2 : len(distances) // 2 + 1]
    return middle.mean().to(dtype)


class MMDTest(NamedTuple):
    """The statistic, unbiased MMD^2, and its p-value."""

    statistic: float
    p_value: float


def mmd_test(
    x: Tensor, y: Tensor, kernel: Kernel, permutations: int = 1000, generator: Generator | None = None, *, impl: str = "auto"
) -> MMDTest:
    """Permutation test of whether x (N, D) and y (M, D) come from one distribution, by unbiased MMD^2.

    p = (1 + number of permuted statistics >= the observed one) / (1 + permutations); permutations are drawn from `generator`, a
    CPU generator, by default one seeded with 0. The matrix is not stored: memory is O((N + M) (D + 64)). Raises ValueError for
    fewer than two samples a side or fewer than one permutation (Gretton et al. 2012, section 8).
    """
    checked("mmd_test", kernel)
    (a, b), _ = points("mmd_test", x=x, y=y)
    if isinstance(permutations, bool) or not isinstance(permutations, int):
        raise TypeError(f"mmd_test: permutations got {type(permutations).__name__}, wants an int")
    n, m = len(a), len(b)
    if permutations < 1 or min(n, m) < 2:
        raise ValueError(f"mmd_test: got {n} and {m} samples and {permutations} permutations, wants at least 2, 2 and 1")
    generator = generator or Generator().manual_seed(0)
    with torch.no_grad(), torch.autocast(a.device.type, enabled=False):
        pooled = torch.cat([a, b])
        own = _self_values(pooled, kernel)
        found = [
            _split_statistics(pooled, inside.to(pooled), own, kernel, impl) for inside in _splits(n, m, permutations, generator)
        ]
        statistics = torch.cat(found)
    observed = statistics[0]
    # Permutations that exchange equal samples give the same statistic up to rounding.
    near = observed - 1e-6 * statistics.abs().max()
    return MMDTest(float(observed), (1 + int((statistics[1:] >= near).sum())) / (1 + permutations))


_AT_ONCE = 64  # splits that go through the kernel matrix together


def _splits(n: int, m: int, permutations: int, generator: Generator) -> Iterator[Tensor]:
    """Columns that mark n of n + m samples: the first n, then random ones."""
    column = torch.cat([torch.ones(n), torch.zeros(m)])
    for start in range(0, 1 + permutations, _AT_ONCE):
        shuffled = range(start, min(start + _AT_ONCE, 1 + permutations))
        yield torch.stack([column[torch.randperm(n + m, generator=generator)] if i else column for i in shuffled], 1)


def _self_values(x: Tensor, kernel: Kernel) -> Tensor:
    """k(x_i, x_i), (N,)."""
    parts = []
    for packed in pack(kernel, x.shape[1], x.device):
        d = (x * x).sum(1) if packed.metric == DOT else x.new_zeros(len(x))
        parts.append(reference.values(packed, d))
    return torch.stack(parts).sum(0)


def _split_statistics(pooled: Tensor, inside: Tensor, own: Tensor, kernel: Kernel, impl: str) -> Tensor:
    """Unbiased MMD^2 (S,) between the samples that each column of inside (T, S) marks with 1 and the others."""
    outside = 1 - inside
    n, m = inside.sum(0).double(), outside.sum(0).double()
    through = kernel_dot(pooled, pooled, torch.cat([inside, outside], 1), kernel, impl=impl).double()
    to_inside, to_outside = through.split(inside.shape[1], 1)
    alone = own.double()[:, None]
    within = (inside * (to_inside - alone)).sum(0) / (n * (n - 1))
    without = (outside * (to_outside - alone)).sum(0) / (m * (m - 1))
    return within + without - 2 * (inside * to_outside).sum(0) / (n * m)
