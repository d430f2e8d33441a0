"""Non-saturating GAN, Goodfellow et al. 2014, arXiv:1406.2661, section 3. G ascends log D(G(z)) instead.

Same fixed point as the minimax game; where D rejects a sample surely, G's gradient stays near 1 and does not vanish.
"""

from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def gan_ns(lr: float = 2e-4, critic_steps: int = 1) -> Recipe:
    """lr: Adam's rate, betas (0.5, 0.999). critic_steps: updates of D for each one of G."""
    return adversarial(losses.non_saturating, adam(lr), critic_steps=critic_steps)
