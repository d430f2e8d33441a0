"""GAN, Goodfellow et al. 2014, arXiv:1406.2661. The minimax game of its eq. 1, both players on one value.

V(D, G) = E log D(x) + E log(1 - D(G(z))): D ascends it, G descends it. With D at its optimum V is 2 JSD(data || model) - 2 log 2.
"""

from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def gan_minimax(lr: float = 2e-4, critic_steps: int = 1) -> Recipe:
    """lr: Adam's rate, betas (0.5, 0.999). critic_steps: the paper's k, updates of D for each one of G."""
    return adversarial(losses.minimax, adam(lr), critic_steps=critic_steps)
