"""Wasserstein GAN, Arjovsky et al. 2017, arXiv:1701.07875. The critic is kept Lipschitz by clipping its weights.

f: max E f(x) - E f(g) with every weight in [-clip_value, clip_value]; G: min -E f(g).
"""

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, recipe, rmsprop
from gancore.regularizers import clip_weights


@recipe
def wgan(clip_value: float = 0.01, critic_steps: int = 5, lr: float = 5e-5) -> Recipe:
    """clip_value: the weight box. critic_steps: critic updates for each one of G. lr: RMSProp's rate, no momentum."""
    return adversarial(
        losses.wasserstein, rmsprop(lr), nets=nets.gan, critic_steps=critic_steps, after_critic=clip_weights("D", clip_value)
    )
