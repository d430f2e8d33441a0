"""Objectives: pure functions of scores, per sample and unreduced. Weights, means and optimisers belong to the caller.

A score is what a critic returns, (N,): the logit of "real" for the probabilistic objectives, an unbounded value for the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Pair:
    """An adversarial objective: critic(real, fake) and generator(fake), each (N,) and minimised.

    paired: G's side is generator(fake, real), a comparison with as many scores of data.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    paired: bool = False


def bce(logits: Tensor, target: float | Tensor) -> Tensor:
    """Cross-entropy of logits (N,) against a target probability, hard or soft: -t log D - (1-t) log(1-D)."""
    return F.softplus(logits) - target * logits


def _logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real) + F.softplus(fake)


minimax = Pair(_logistic_critic, lambda fake: -F.softplus(fake))
"""Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1: D ascends E log D(x) + E log(1-D(g)), G descends the same value."""

non_saturating = Pair(_logistic_critic, lambda fake: F.softplus(-fake))
"""The same critic; G descends -E log D(g) (section 3 of arXiv:1406.2661)."""

hinge = Pair(lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda fake: -fake)
"""Lim and Ye 2017 (arXiv:1705.02894): only points inside the margin, its support vectors, move the critic."""

wasserstein = Pair(lambda real, fake: fake - real, lambda fake: -fake)
"""Arjovsky et al. 2017 (arXiv:1701.07875), the dual of the earth mover's distance; the critic must be kept Lipschitz."""

relativistic = Pair(lambda real, fake: F.softplus(fake - real), lambda fake, real: F.softplus(real - fake), paired=True)
"""Jolicoeur-Martineau 2019 (arXiv:1807.00734), section 3: both sides see how much realer data are than fakes, pair by pair."""


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Pair:
    """Mao et al. 2017 (arXiv:1611.04076), eq. 2: scores of fakes go to a, of data to b; G brings its fakes to c."""
    return Pair(
        lambda real, fake: 0.5 * (real - b) ** 2 + 0.5 * (fake - a) ** 2,
        lambda fake: 0.5 * (fake - c) ** 2,
    )


def mean_distance(real: Tensor, fake: Tensor, norm: float = 2) -> Tensor:
    """Largest <v, E real - E fake> over |v|_norm <= 1, (), of features (N, C) and (M, C): a dual norm of their means' difference.

    norm: 1, 2 or inf, of v; its dual is inf, 2 or 1 (Mroueh et al. 2017, arXiv:1702.08398, section 3).
    """
    difference = (real.mean(0) - fake.mean(0)).flatten()
    if norm == 2:
        return root(difference.square().sum())
    return difference.abs().amax() if norm == 1 else difference.abs().sum()


def kl_gauss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) over the last dimension: (N, D) -> (N,), in nats (arXiv:1312.6114, appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)


def reparametrize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from N(mean, variance) that passes gradients to both (arXiv:1312.6114, section 2.4)."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squared differences per sample: (N, ...) -> (N,)."""
    return ((a - b) ** 2).flatten(1).sum(1)


def root(square: Tensor) -> Tensor:
    """The square root of squared sizes, of any shape; where rounding or chance left none above 0, it and its derivative are 0."""
    # Times 0 and not 0, so that NaN stays NaN.
    return torch.where(square > 0, square.clamp_min(torch.finfo(square.dtype).tiny).sqrt(), 0 * square)
