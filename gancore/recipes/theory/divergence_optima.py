"""Divergences and their optima, Theis et al. 2015, arXiv:1511.01844, figure 1. One Gaussian q for a mixture p, by four measures.

KL(p || q), KL(q || p), JSD(p, q) by quadrature, and MMD^2 = E k(x, x') - 2 E k(x, y) + E k(y, y') for k = exp(-d^2 / (2 h^2)),
where E k of N(a, s^2) and N(b, t^2) is h / r exp(-(a - b)^2 / (2 r^2)), r^2 = h^2 + s^2 + t^2. Of several starts the lowest
value counts.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from gancore.core import demo
from gancore.figures import curves
from gancore.theory import fit_normal, grid, jsd, kl, mixture


@demo
def divergence_optima(
    weights: tuple[float, ...] = (0.7, 0.3), means: tuple[float, ...] = (-2.0, 2.5), deviations: tuple[float, ...] = (0.6, 0.6),
    h: float = 1.0, updates: int = 600,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """weights, means, deviations: of p's components. h: the kernel's bandwidth. updates: of each descent."""
    p, x = mixture(weights, means, deviations), grid(-20, 20, 4001)
    w, m, s = p.mixture_distribution.probs, p.component_distribution.mean, p.component_distribution.stddev
    one = torch.ones(1, dtype=torch.float64)

    def mmd2(q: Normal) -> Tensor:
        a, t = q.mean[None], q.stddev[None]
        own = _mean_kernel(w, m, s, w, m, s, h) + _mean_kernel(one, a, t, one, a, t, h)
        return own - 2 * _mean_kernel(w, m, s, one, a, t, h)

    measures: dict[str, Callable[[Normal], Tensor]] = {
        "KL(p || q)": lambda q: kl(p, q, x), "KL(q || p)": lambda q: kl(q, p, x), "JSD": lambda q: jsd(p, q, x), "MMD": mmd2,
    }  # fmt: skip
    seen, figures = grid(-7, 7, 561), dict[str, float]()
    lines = {"p": (seen, p.log_prob(seen).exp())}
    for name, measure in measures.items():
        starts = (*zip(means, deviations, strict=True), (float(p.mean), float(p.stddev)))
        best, losses = min((fit_normal(measure, *at, updates) for at in starts), key=lambda fit: fit[1][-1])
        found = {"mean": float(best.mean), "deviation": float(best.stddev), "value": losses[-1]}
        figures |= {f"{name}: {what}": value for what, value in found.items()}
        lines[name] = (seen, best.log_prob(seen).exp())
    return figures, curves(lines, "x", "density")


def _mean_kernel(w: Tensor, m: Tensor, s: Tensor, v: Tensor, n: Tensor, t: Tensor, h: float) -> Tensor:
    square = h * h + s[:, None] ** 2 + t**2
    return (w[:, None] * v * h / square.sqrt() * (-((m[:, None] - n) ** 2) / (2 * square)).exp()).sum()
