"""Relaxed Wasserstein GAN, Guo et al. 2017, arXiv:1705.07164. Transport at a Bregman cost, which need not be symmetric.

W_phi(P, Q) = inf over couplings of E D_phi(x, y), D_phi(x, y) = phi(x) - phi(y) - <grad phi(y), x - y> (gancore.transport); phi =
|x|^2 / 2 gives W_2^2 / 2, phi = sum x log x the Kullback-Leibler cost. f: max E f(x) - E f(g), every weight in [-low, high], a box
that is not symmetric either (their section 4); G: min -E f(g).
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, recipe, rmsprop
from gancore.regularizers import clip_weights


@recipe
def rwgan(low: float = 0.01, high: float = 0.02, critic_steps: int = 5, lr: float = 5e-4) -> Recipe:
    """low, high: the box of f's weights. critic_steps: critic updates for each one of G. lr: RMSProp's rate."""
    return adversarial(
        losses.wasserstein,
        rmsprop(lr),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        after_critic=clip_weights("D", high, least=-low),
    )
