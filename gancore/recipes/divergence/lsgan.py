"""Least squares GAN, Mao et al. 2017, arXiv:1611.04076. Scores are regressed to codes, so that confident errors still pull.

D: 1/2 E (D(x) - b)^2 + 1/2 E (D(g) - a)^2, G: 1/2 E (D(g) - c)^2, with D unbounded.
"""

from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def lsgan(a: float = 0.0, b: float = 1.0, c: float = 1.0, lr: float = 2e-4) -> Recipe:
    """a, b, c: the codes of fakes, of data and of what G wants. lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(losses.least_squares(a, b, c), adam(lr))
