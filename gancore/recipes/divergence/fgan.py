"""f-GAN, Nowozin et al. 2016, arXiv:1606.00709. The game on any f-divergence's variational bound.

V: max E g(V(x)) - E f*(g(V(G(z)))), g onto the domain of the conjugate f* (eq. 5). G: min -E f*(g(V(G(z)))) (eq. 4), or, where
that gradient vanishes, max E g(V(G(z))) (section 3.2).
"""

from typing import Literal

from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe
from gancore.divergences import DIVERGENCES, alpha_divergence

Name = Literal["kl", "reverse-kl", "pearson", "neyman", "hellinger", "tv", "jeffreys", "js", "gan", "alpha"]


@recipe
def fgan(divergence: Name = "js", alpha: float = 0.5, strong: bool = True, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """divergence: of the table in gancore.divergences. alpha: of "alpha", else without effect. strong: G ascends E g(V(G(z))).
    critic_steps: updates of V for each one of G. lr: Adam's rate, betas (0.5, 0.999)."""
    chosen = alpha_divergence(alpha) if divergence == "alpha" else DIVERGENCES[divergence]
    return adversarial(chosen.pair(strong), adam(lr), critic_steps=critic_steps)
