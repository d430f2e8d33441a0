"""f-divergences D_f(p|q) = E_q f(p/q) and what estimates them from samples (Nowozin et al. 2016, arXiv:1606.00709, tables 2 and 6).

For any function T with values in the domain of the convex conjugate f*, E_p T - E_q f*(T) is a lower bound of D_f(p|q), and is D_f
where T = f'(p/q). A critic's score v becomes T = g(v) by an increasing map g onto that domain; f*(g(v)) is written out, so that no
exponential is formed only to have its logarithm taken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore.losses import Pair

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence, of elementwise maps.

    f: of density ratios u > 0, convex with f(1) = 0 (the GAN's has f(1) = -log 4). conjugate: f*(t) = max over u of t u - f(u).
    output: g, from scores to the conjugate's domain. cost: f*(g(v)). threshold: f'(1), what T is where densities are equal.
    """

    f: Map
    conjugate: Map
    output: Map
    cost: Map
    threshold: float = 0.0

    def pair(self, strong: bool = True) -> Pair:
        """The game on its bound (eqs. 4 and 8 of arXiv:1606.00709).

        strong: G ascends E T(G(z)), whose gradient does not vanish where the critic is sure (section 3.2), in place of descending
        -E f*(T(G(z))).
        """
        generator = (lambda fake: -self.output(fake)) if strong else (lambda fake: -self.cost(fake))
        return Pair(lambda real, fake: self.cost(fake) - self.output(real), generator)

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """T(x) - f*(T(g)) of scores (N,) each; its mean is the bound."""
        return self.output(real) - self.cost(fake)


def _identity(v: Tensor) -> Tensor:
    return v


def _jeffreys(t: Tensor) -> Tensor:
    # f* = w + 1/w + t - 2 with log w + w = 1 - t; for y = log w Newton's steps on e^y + y = x come from above without overflow.
    x = 1 - t
    with torch.no_grad():
        y = torch.where(x > 1, x.clamp_min(1).log(), x)
        for _ in range(8):
            y = y - (y.exp() + y - x) / (y.exp() + 1)
    for _ in range(2):  # each step from the solution doubles the orders of derivative that are right
        y = y - (y.exp() + y - x) / (y.exp() + 1)
    return y.exp() + (-y).exp() + t - 2


KL = Divergence(lambda u: u * u.log(), lambda t: (t - 1).exp(), _identity, lambda v: (v - 1).exp(), 1.0)
REVERSE_KL = Divergence(lambda u: -u.log(), lambda t: -1 - (-t).log(), lambda v: -(-v).exp(), lambda v: v - 1, -1.0)
PEARSON = Divergence(lambda u: (u - 1) ** 2, lambda t: t * t / 4 + t, _identity, lambda v: v * v / 4 + v)
NEYMAN = Divergence(
    lambda u: (1 - u) ** 2 / u, lambda t: 2 - 2 * (1 - t).sqrt(), lambda v: -torch.expm1(-v), lambda v: -2 * torch.expm1(-v / 2)
)
HELLINGER = Divergence(lambda u: (u.sqrt() - 1) ** 2, lambda t: t / (1 - t), lambda v: -torch.expm1(-v), torch.expm1)
TOTAL_VARIATION = Divergence(
    lambda u: (u - 1).abs() / 2, _identity, lambda v: v.tanh() / 2, lambda v: v.tanh() / 2
)  # f' jumps at 1, from -1/2 to 1/2: 0 lies between
JEFFREYS = Divergence(lambda u: (u - 1) * u.log(), _jeffreys, _identity, _jeffreys)
JENSEN_SHANNON = Divergence(
    lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(), lambda t: -(2 - t.exp()).log(),
    lambda v: math.log(2) - F.softplus(-v), lambda v: F.softplus(v) - math.log(2),
)  # fmt: skip
GAN = Divergence(
    lambda u: u * u.log() - (u + 1) * (u + 1).log(), lambda t: -torch.log1p(-t.exp()),
    lambda v: -F.softplus(-v), F.softplus, -math.log(2),
)  # fmt: skip

DIVERGENCES = {
    "kl": KL, "reverse-kl": REVERSE_KL, "pearson": PEARSON, "neyman": NEYMAN, "hellinger": HELLINGER, "tv": TOTAL_VARIATION,
    "jeffreys": JEFFREYS, "js": JENSEN_SHANNON, "gan": GAN,
}  # fmt: skip


def alpha_divergence(alpha: float) -> Divergence:
    """f(u) = (u^alpha - 1 - alpha (u - 1)) / (alpha (alpha - 1)): 1 is KL, 0 reverse KL, 2 half Pearson's, 1/2 twice Hellinger's.

    The linear term leaves the divergence as it is and makes f'(1) = 0, so that the limits exist. Raises ValueError for an alpha
    that is no finite number.
    """
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite, got {alpha}")
    if alpha == 1:
        return Divergence(lambda u: u * u.log() - u + 1, torch.expm1, _identity, torch.expm1)
    if alpha == 0:
        return Divergence(lambda u: u - 1 - u.log(), lambda t: -torch.log1p(-t), lambda v: -torch.expm1(-v), _identity)
    power = alpha / (alpha - 1)

    def conjugate(t: Tensor) -> Tensor:
        # Above alpha = 1 all u > 0 cost more than they bring below t = -1 / (alpha - 1), and u = 0 is best.
        return ((1 + (alpha - 1) * t).clamp_min(0) ** power - 1) / alpha

    if alpha > 1:
        return Divergence(lambda u: _alpha(u, alpha), conjugate, _identity, conjugate)
    # u = e^v is the ratio itself: t = f'(e^v).
    output = lambda v: torch.expm1((alpha - 1) * v) / (alpha - 1)
    return Divergence(lambda u: _alpha(u, alpha), conjugate, output, lambda v: torch.expm1(alpha * v) / alpha)


def _alpha(u: Tensor, alpha: float) -> Tensor:
    return (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1))
