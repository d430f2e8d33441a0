"""WGAN-LP, Petzka et al. 2018, arXiv:1709.08894. WGAN-GP whose penalty lets slopes below 1 be: what 1-Lipschitz means.

f: min E f(g) - E f(x) + penalty E max(0, |grad f(u)| - 1)^2 (eq. 8), u uniform on the line from x to g. G: min -E f(g).
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe
from gancore.penalties import gradient_penalty


@recipe
def wgan_lp(penalty: float = 10.0, critic_steps: int = 5, lr: float = 1e-4) -> Recipe:
    """penalty: weight of the one-sided penalty. critic_steps: critic updates for each one of G. lr: Adam's rate, betas (0, 0.9)."""
    return adversarial(
        losses.wasserstein,
        adam(lr, betas=(0.0, 0.9)),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        critic_terms={"penalty": (penalty, partial(gradient_penalty, one_sided=True))},
    )
