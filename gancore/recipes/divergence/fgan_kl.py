"""KL-GAN, Nowozin et al. 2016, arXiv:1606.00709. G descends KL(data|model), which covers all of the data.

f(u) = u log u, f*(t) = exp(t - 1), T = V. V: max E V(x) - E exp(V(g) - 1). G: the same bound, descended, or max E V(g).
"""

from gancore import divergences
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def fgan_kl(strong: bool = True, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """strong: G ascends E g(V(G(z))) instead of descending its side of the bound. critic_steps: updates of V for each one of G.
    lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(divergences.KL.pair(strong), adam(lr), critic_steps=critic_steps)
