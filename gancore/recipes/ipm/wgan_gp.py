"""WGAN-GP, Gulrajani et al. 2017, arXiv:1704.00028. Wasserstein critic with unit gradient norm between data and fakes.

f: min E f(g) - E f(x) + penalty E (|grad f(u)| - 1)^2, u uniform on the line from x to g; no batch
normalisation in f. G: min -E f(g).
"""

from functools import partial

from gancore import losses, nets, penalties
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def wgan_gp(penalty: float = 10.0, critic_steps: int = 5, lr: float = 1e-4) -> Recipe:
    """penalty: weight of the gradient penalty. critic_steps: critic updates for each one of G. lr: Adam's rate, betas (0, 0.9)."""
    return adversarial(
        losses.wasserstein,
        adam(lr, betas=(0.0, 0.9)),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        critic_terms={"penalty": (penalty, penalties.gradient_penalty)},
    )
