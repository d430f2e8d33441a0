"""Optimal discriminator, Goodfellow et al. 2014, arXiv:1406.2661, proposition 1. Trained on two known laws it is their ratio.

D* = p / (p + q), so that its logit is log p / q: (mean^2 - 2 mean x) / 2 for p = N(0, 1) and q = N(mean, 1), which is 1/2 - x at
mean 1. Equal laws leave nothing to tell: accuracy 1/2.
"""

from typing import Any

import torch
from torch import Tensor

from gancore import losses
from gancore.core import demo
from gancore.figures import curves
from gancore.nets import Mlp
from gancore.theory import descend, seeded


@demo
def density_ratio(
    mean: float = 1.0, batch: int = 1024, updates: int = 1500, held_out: int = 20_000, lr: float = 5e-3, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """mean: of q. batch: fresh samples of each law a step. updates: of D. held_out: samples for the accuracy. lr: Adam's rate.
    stream: seeds all draws."""
    x = torch.linspace(-2, 3, 101)[:, None]
    with seeded(stream):
        D, same = _trained(mean, batch, updates, lr), _trained(0.0, batch, updates, lr)
        accuracy, chance = _accuracy(D, mean, held_out), _accuracy(same, 0.0, held_out)
    with torch.no_grad():
        found, exact = D(x)[:, 0], 0.5 * mean**2 - mean * x[:, 0]
    figures = {
        "R^2 of the logit": float(1 - (found - exact).square().sum() / (exact - exact.mean()).square().sum()),
        "largest error of the logit": float((found - exact).abs().max()),
        "mean error of D": float((found.sigmoid() - exact.sigmoid()).abs().mean()),
        "accuracy": accuracy, "accuracy of D*": float(torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(abs(mean) / 2))),
        "accuracy on equal laws": chance,
    }  # fmt: skip
    lines = {"trained": (x[:, 0], found), "log p / q": (x[:, 0], exact)}
    return figures, curves(lines, "x", "logit of D")


def _draw(n: int, mean: float) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1), mean + torch.randn(n, 1)


def _trained(mean: float, batch: int, updates: int, lr: float) -> Mlp:
    D = Mlp([1, 32, 32, 1])
    descend(D.parameters(), lambda: losses.minimax.critic(*map(D, _draw(batch, mean))).mean(), updates, lr)
    return D


@torch.no_grad()
def _accuracy(D: Mlp, mean: float, n: int) -> float:
    real, fake = _draw(n, mean)
    return float(torch.cat([D(real) > 0, D(fake) <= 0]).float().mean())
