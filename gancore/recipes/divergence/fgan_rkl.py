"""Reverse-KL GAN, Nowozin et al. 2016, arXiv:1606.00709. G descends KL(model|data), which seeks a mode.

f(u) = -log u, f*(t) = -1 - log(-t), T = -exp(-V). V: max 1 - E exp(-V(x)) - E V(g). G: the same bound, descended, or
max -E exp(-V(g)).
"""

from gancore import divergences
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def fgan_rkl(strong: bool = True, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """strong: G ascends E g(V(G(z))) instead of descending its side of the bound. critic_steps: updates of V for each one of G.
    lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(divergences.REVERSE_KL.pair(strong), adam(lr), critic_steps=critic_steps)
