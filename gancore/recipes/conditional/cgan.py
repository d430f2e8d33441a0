"""Conditional GAN, Mirza and Osindero 2014, arXiv:1411.1784. Both players are given the label.

V(D, G) = E log D(x | y) + E log(1 - D(G(z | c) | c)), its non-saturating form; labels enter as one-hot inputs.
"""

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import DataSpec, Recipe, adam, recipe


@recipe
def cgan(lr: float = 2e-4) -> Recipe:
    """lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(losses.non_saturating, adam(lr), nets=_players, conditional=True)


def _players(spec: DataSpec) -> dict:
    return {"G": nets.generator(spec, conditional="concat"), "D": nets.critic(spec, conditional="concat")}
