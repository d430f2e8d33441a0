"""Total variation GAN, Nowozin et al. 2016, arXiv:1606.00709. The one f-divergence that is an integral probability metric too.

f(u) = |u - 1| / 2, f*(t) = t on [-1/2, 1/2], T = tanh(V) / 2. V: max E T(x) - E T(g). G: max E T(g), in both its forms.
"""

from gancore import divergences
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def fgan_tv(strong: bool = True, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """strong: G ascends E g(V(G(z))) instead of descending its side of the bound. critic_steps: updates of V for each one of G.
    lr: Adam's rate, betas (0.5, 0.999)."""
    return adversarial(divergences.TOTAL_VARIATION.pair(strong), adam(lr), critic_steps=critic_steps)
