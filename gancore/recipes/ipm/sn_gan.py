"""SN-GAN, Miyato et al. 2018, arXiv:1802.05957. Every layer of D is divided by its largest singular value, so D is 1-Lipschitz.

Hinge loss (their eqs. 16 and 17). One power iteration at each forward pass in training finds the singular values.
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def sn_gan(critic_steps: int = 5, lr: float = 2e-4) -> Recipe:
    """critic_steps: updates of D for each one of G. lr: Adam's rate, betas (0, 0.9) (setting E of their table 1)."""
    return adversarial(
        losses.hinge,
        adam(lr, betas=(0.0, 0.9)),
        nets=partial(nets.gan, norm=False, spectral_norm=True),
        critic_steps=critic_steps,
    )
