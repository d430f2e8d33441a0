"""Directions of KL, Theis et al. 2015, arXiv:1511.01844, section 2. One Gaussian q for a law p of two modes.

Forward: min KL(p || q) = E_p log p / q, by densities, covers both modes. Reverse: min KL(q || p), by reparametrised x = m + s e,
stays in one and costs log 2. JSD = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2 is symmetric and at most log 2.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from gancore.core import demo
from gancore.figures import curves
from gancore.theory import fit_normal, grid, jsd, kl, mixture, normal


@demo
def kl_asymmetry(
    apart: float = 3.0, deviation: float = 0.7, start: float = 0.5, updates: int = 1500
) -> tuple[dict[str, float], Any]:
    """apart: p's modes lie at -apart and apart. deviation: of each. start: the reverse fits begin at -start and start. updates: of
    each descent."""
    p, x = mixture((0.5, 0.5), (-apart, apart), (deviation, deviation)), grid()
    e = grid(-8, 8, 1601)
    weight = normal(0.0).log_prob(e).exp()

    def reverse(q: Normal) -> Tensor:
        at = q.mean + q.stddev * e
        return torch.trapezoid(weight * (q.log_prob(at) - p.log_prob(at)), e)

    forward, _ = fit_normal(lambda q: kl(p, q, x), start, 1.0, updates)
    right, left = (fit_normal(reverse, m, 1.0, updates)[0] for m in (start, -start))
    figures = {
        "forward: mean": float(forward.mean), "forward: deviation": float(forward.stddev),
        "reverse from the right: mean": float(right.mean), "reverse from the right: deviation": float(right.stddev),
        "reverse from the left: mean": float(left.mean), "reverse: KL(q || p)": float(kl(right, p, x)),
        "forward: KL(p || q)": float(kl(p, forward, x)), "forward fit: KL(q || p)": float(kl(forward, p, x)),
        "JSD(p, reverse fit)": float(jsd(p, right, x)), "JSD(reverse fit, p)": float(jsd(right, p, x)),
        "JSD of laws far apart": float(jsd(normal(-9.0, 0.5), normal(9.0, 0.5), x)), "JSD of equal laws": float(jsd(p, p, x)),
    }  # fmt: skip
    seen = grid(-3 * apart, 3 * apart, 601)
    laws = {"p": p, "forward": forward, "reverse": right, "reverse, from the left": left}
    return figures, curves({name: (seen, law.log_prob(seen).exp()) for name, law in laws.items()}, "x", "density")
