"""R3GAN, Huang et al. 2024, arXiv:2501.05441. Fakes are compared with data pair by pair; D's slope is penalised at both.

D: min E softplus(D(g) - D(x)) + gamma/2 E |grad D(x)|^2 + gamma/2 E |grad D(g)|^2. G: min E softplus(D(x) - D(g)).
The pairing leaves G no way to win by fewer modes; R1 and R2 together make the game converge (their section 2).
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe
from gancore.penalties import gradient_penalty


@recipe
def r3gan(gamma: float = 1.0, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """gamma: weight of both squared slopes, halved. critic_steps: updates of D for each one of G. lr: Adam's rate, betas
    (0, 0.99)."""
    return adversarial(
        losses.relativistic,
        adam(lr, betas=(0.0, 0.99)),
        nets=partial(nets.gan, norm=False),
        critic_steps=critic_steps,
        critic_terms={
            "r1": (gamma / 2, partial(gradient_penalty, at="real", center=0.0)),
            "r2": (gamma / 2, partial(gradient_penalty, at="fake", center=0.0)),
        },
    )
