"""R1-GAN, Mescheder et al. 2018, arXiv:1801.04406. The logistic game, with D's slope penalised at the data alone.

D: min -log sigma(D(x)) - log(1 - sigma(D(g))) + gamma/2 E |grad D(x)|^2 (eq. 9). G: min -log sigma(D(g)). The penalty
makes the game converge locally where the plain one circles its equilibrium.
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe
from gancore.penalties import gradient_penalty


@recipe
def r1_gan(gamma: float = 10.0, critic_steps: int = 1, lr: float = 1e-4) -> Recipe:
    """gamma: weight of the squared slope, halved. critic_steps: updates of D for each one of G. lr: Adam's rate, betas
    (0, 0.99)."""
    return adversarial(
        losses.non_saturating,
        adam(lr, betas=(0.0, 0.99)),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        critic_terms={"r1": (gamma / 2, partial(gradient_penalty, at="real", center=0.0))},
    )
