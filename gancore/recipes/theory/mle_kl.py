"""Maximum likelihood is minimal KL, Goodfellow et al. 2014, arXiv:1406.2661, section 4.1. A Gaussian is fitted by its gradient.

min over q: -E_p log q(x) = KL(p || q) + H(p); of samples the minimum is their mean and their variance with divisor n.
"""

from typing import Any

import torch
from torch.distributions import kl_divergence

from gancore.core import demo
from gancore.figures import curves
from gancore.theory import fit_normal, grid, normal, seeded


@demo
def mle_kl(
    mean: float = 2.0, deviation: float = 0.5, samples: int = 1000, updates: int = 1500, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """mean, deviation: of p. samples: drawn from p for the fit. updates: of the descent. stream: seeds the draws."""
    p, x = normal(mean, deviation), grid()
    with seeded(stream):
        data = p.sample((samples,))
    fitted, losses = fit_normal(lambda q: -q.log_prob(data).mean(), 0.0, 1.0, updates)

    def gap(at: float) -> tuple[float, float]:
        """KL(p || q) in closed form and -E_p log q - H(p), where q has gone the share `at` of the way from N(0, 1)."""
        q = normal(at * fitted.mean, 1 + at * (fitted.stddev - 1))
        return float(kl_divergence(p, q)), float(-torch.trapezoid(p.log_prob(x).exp() * q.log_prob(x), x) - p.entropy())

    way = [i / 20 for i in range(21)]
    exact, found = zip(*map(gap, way), strict=True)
    figures = {
        "fitted mean": float(fitted.mean), "sample mean": float(data.mean()),
        "fitted variance": float(fitted.variance), "sample variance": float(data.var(correction=0)),
        "likelihood of the sample": -losses[-1],
        "KL at N(0, 1)": exact[0], "cross-entropy less entropy at N(0, 1)": found[0],
        "largest difference of the two on the way to the fit": max(abs(a - b) for a, b in zip(exact, found, strict=True)),
    }  # fmt: skip
    lines = {"KL(p || q), closed form": (way, exact), "-E log q - H(p)": (way, found)}
    return figures, curves(lines, "share of the way from N(0, 1) to the fit", "nats")
