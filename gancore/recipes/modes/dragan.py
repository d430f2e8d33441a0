"""DRAGAN, Kodali et al. 2017, arXiv:1705.07215. The logistic game, with D's slope held at k around the data, never between.

D: min -log sigma(D(x)) - log(1 - sigma(D(g))) + penalty E (|grad D(x + delta)| - k)^2, delta noise of about half the data's
deviation. G: min -log sigma(D(g)).
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe
from gancore.penalties import gradient_penalty


@recipe
def dragan(penalty: float = 10.0, k: float = 1.0, noise: float = 0.0, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """penalty: its weight. k: the slope wanted. noise: deviation of a normal delta; 0 is the paper's, half the data's deviation
    times U[0, 1) per number. critic_steps: updates of D for each one of G. lr: Adam's rate, betas (0.5, 0.999)."""
    around = partial(gradient_penalty, at="around", center=k, noise=noise or None)
    return adversarial(
        losses.non_saturating,
        adam(lr),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        critic_terms={"penalty": (penalty, around)},
    )
