"""What -log D optimises, Arjovsky and Bottou 2017, arXiv:1701.04862, theorem 2.5. Its gradient is that of KL less twice JSD.

With D* = p / (p + q_0) fixed at the present t, d/dt E_z[-log D*(g_t(z))] = d/dt [KL(q_t || p) - 2 JSD(q_t, p)], g_t(z) = t + s z.
The left side by autograd, the right by central differences. As the laws narrow to disjoint supports, the variance of the
gradient over z grows like 1 / width^2, where that of log(1 - D*) vanishes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from gancore import losses
from gancore.core import demo
from gancore.figures import curves
from gancore.theory import grid, jsd, kl, normal


@demo
def ns_gradient(
    mean: float = 1.0, ratio: float = 0.8, widths: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.09),
    h: float = 1e-4,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """mean: t, the model's. ratio: of the model's width to that of the data. widths: of the data N(0, width^2). h: half the
    difference of t on the right side."""
    z = grid(-9, 9, 4001)
    weight = normal(0.0).log_prob(z).exp()
    gaps, strong, weak = [], [], []
    for width in widths:
        p, s = normal(0.0, width), ratio * width
        x, q = grid(-10 * width, mean + 10 * width, 20_001), normal(mean, s)
        slope = _slopes(losses.non_saturating, p, q, z)
        left = float(torch.trapezoid(weight * slope, z))
        above, below = ((kl(n, p, x) - 2 * jsd(n, p, x)) for n in (normal(mean + h, s), normal(mean - h, s)))
        gaps.append(abs(left - float(above - below) / (2 * h)) / max(1.0, abs(left)))
        strong.append(float(torch.trapezoid(weight * (slope - left) ** 2, z)))
        flat = _slopes(losses.minimax, p, q, z)
        weak.append(float(torch.trapezoid(weight * flat**2, z)))
    figures = {
        "largest relative difference of the two gradients": max(gaps),
        "variance of the gradient, widest": strong[0], "variance of the gradient, narrowest": strong[-1],
        "growth of the variance": strong[-1] / strong[0],
        "mean square of the gradient of log(1 - D), widest": weak[0], "the same, narrowest": weak[-1],
    }  # fmt: skip
    lines = {"-log D: variance": (widths, strong), "log(1 - D): mean square": (widths, [max(v, 1e-12) for v in weak])}
    return figures, curves(lines, "width of the data", "of the gradient", xscale="log", yscale="log")


def _slopes(pair: losses.Pair, p: Normal, q: Normal, z: Tensor) -> Tensor:
    """The derivative by t of G's loss at each z, for D* of p and q as they are: that by x = t + s z, whose slope in t is 1."""
    x = (q.mean + q.stddev * z).requires_grad_()
    logit = p.log_prob(x) - q.log_prob(x)
    return torch.autograd.grad(pair.generator(logit).sum(), x)[0]
