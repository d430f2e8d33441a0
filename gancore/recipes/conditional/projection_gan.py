"""Projection GAN, Miyato and Koyama 2018, arXiv:1802.05637. f(x, y) = <embedding(y), phi(x)> + psi(phi(x)), spectrally normalised.

Hinge loss, spectral normalisation in every layer of the critic (arXiv:1802.05957), conditional batch normalisation in G.
"""

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import DataSpec, Recipe, adam, recipe


@recipe
def projection_gan(lr: float = 2e-4, critic_lr: float = 2e-4, critic_steps: int = 1) -> Recipe:
    """lr, critic_lr: Adam's rates for G and D, betas (0, 0.9). critic_steps: updates of D for each one of G."""
    rates = {"G": adam(lr, betas=(0.0, 0.9)), "D": adam(critic_lr, betas=(0.0, 0.9))}
    return adversarial(losses.hinge, rates, nets=_players, critic_steps=critic_steps, conditional=True)


def _players(spec: DataSpec) -> dict:
    return {
        "G": nets.generator(spec, conditional="norm"),
        "D": nets.critic(spec, conditional="projection", norm=False, spectral_norm=True),
    }
