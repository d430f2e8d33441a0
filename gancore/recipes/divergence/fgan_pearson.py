"""Pearson chi^2 GAN, Nowozin et al. 2016, arXiv:1606.00709. Squared deviation of the density ratio from 1.

f(u) = (u - 1)^2, f*(t) = t^2 / 4 + t, T = V. V: max E V(x) - E [V(g)^2 / 4 + V(g)]. G: the same bound, descended, or
max E V(g).
"""

from gancore import divergences
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def fgan_pearson(strong: bool = True, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """strong: G ascends E g(V(G(z))) instead of descending its side of the bound. critic_steps: updates of V for each one of G.
    lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(divergences.PEARSON.pair(strong), adam(lr), critic_steps=critic_steps)
