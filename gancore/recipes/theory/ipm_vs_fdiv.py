"""Rates of estimators, Sriperumbudur et al. 2009, arXiv:0901.2698. Kernel IPM against f-divergences, and TV, which is both.

From n samples of p and of q = p = N(0, I_d), all distances 0: MMD by its plug-in, whose rate n^(-1/2) knows no d; JSD and TV by the
plug-in of cells, which meet ever fewer samples; KL by nearest neighbours, d / n sum_i log(nu_i / rho_i) + log(n / (n - 1)). Of
discrete laws TV = sum |p - q| / 2 is the f-divergence of |u - 1| / 2 and the supremum of E_p f - E_q f over |f| <= 1/2.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from gancore.core import demo
from gancore.figures import curves
from gancore.kernels import gaussian, mmd2
from gancore.theory import normal, seeded


@demo
def ipm_vs_fdiv(
    dims: tuple[int, ...] = (1, 5, 20), samples: int = 200, draws: int = 50, cells: int = 8, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """dims: d. samples: n. draws: pairs of samples for each d. cells: of equal mass along each axis. stream: seeds the draws."""
    errors: dict[str, list[float]] = defaultdict(list)
    with seeded(stream):
        for d in dims:
            pairs = [(torch.randn(samples, d), torch.randn(samples, d)) for _ in range(draws)]
            # The bandwidth follows the typical distance, as the median rule does.
            kernel, by_cells = gaussian(math.sqrt(d)), [_by_cells(x, y, cells) for x, y in pairs]
            found = {
                "MMD": [mmd2(x, y, kernel, estimator="biased").clamp_min(0).sqrt() for x, y in pairs],
                "KL": [knn_kl(x, y) for x, y in pairs], "JSD": [jsd for jsd, _ in by_cells], "TV": [tv for _, tv in by_cells],
            }  # fmt: skip
            for name, values in found.items():
                errors[name].append(float(torch.stack(values).abs().mean()))
        p, q = torch.rand(2, 50, dtype=torch.float64).softmax(1)
    figures = {f"{name} error, d = {d}": e for name, row in errors.items() for d, e in zip(dims, row, strict=True)}
    figures |= {f"growth of {name}'s error": row[-1] / row[0] for name, row in errors.items()}
    figures |= {"TV, f-divergence": float((q * (p / q - 1).abs()).sum() / 2)}
    figures |= {"TV, IPM": float((p - q) @ (p - q).sign() / 2)}
    return figures, curves({name: (dims, row) for name, row in errors.items()}, "d", "mean error", yscale="log")


def _by_cells(x: Tensor, y: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """JSD and TV of the histograms of x and y (N, D) each, over the grid of cells of equal mass under N(0, I)."""
    at = (normal(0.0).cdf(torch.cat([x, y]).double()) * cells).long().clamp_max(cells - 1)
    where = torch.unique(at, dim=0, return_inverse=True)[1]
    p, q = (torch.bincount(part, minlength=int(where.max()) + 1) / len(part) for part in (where[: len(x)], where[len(x) :]))
    m = (p + q) / 2
    return (torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)).sum() / 2, (p - q).abs().sum() / 2


def knn_kl(x: Tensor, y: Tensor) -> Tensor:
    """KL of the laws of x (N, D) and y (M, D) by distances to the nearest other x and the nearest y (Wang et al. 2009)."""
    near, far = (torch.cdist(x, t, compute_mode="donot_use_mm_for_euclid_dist") for t in (x, y))
    rho, nu = near.kthvalue(2, dim=1).values, far.min(1).values
    return x.shape[1] * (nu / rho).log().mean() + math.log(len(y) / (len(x) - 1))
