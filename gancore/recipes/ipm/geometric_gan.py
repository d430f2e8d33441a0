"""Geometric GAN, Lim and Ye 2017, arXiv:1705.02894. The critic is a support vector machine on its last features.

HINGE: D descends E[1 - f(x)]+ + E[1 + f(g)]+, with the margin term C/2 |w|^2 on its separating hyperplane w if asked; G -E f(g).
"""

from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def geometric_gan(margin: float = 0.0, lr: float = 2e-4) -> Recipe:
    """margin: C, the weight of |w|^2 / 2 of the last layer. lr: Adam's rate, betas (0.5, 0.999)."""
    terms = {"hyperplane": (margin, lambda critic, real, fake: 0.5 * critic.hyperplane.square().sum())} if margin else {}
    return adversarial(losses.hinge, adam(lr), critic_terms=terms)
