"""Multi-agent diverse GAN, Ghosh et al. 2018, arXiv:1704.02906. D tells K generators apart, which drives each to modes of its own.

D: min cross-entropy over K + 1 classes, fakes by their generator and data the last. G_i: min -log D_data(G_i(z)).
"""

from gancore import agents
from gancore.adversarial import gan_data
from gancore.core import Phase, Recipe, Stage, adam, recipe


@recipe
def mad_gan(generators: int = 8, lr: float = 2e-4) -> Recipe:
    """generators: K. lr: Adam's rate, betas (0.5, 0.999)."""
    phases = [
        Phase("critic", {"D": {"critic": 1.0}}, agents.critic),
        Phase("generator", {"G": {"generator": 1.0}}, agents.generator),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(lambda spec: agents.players(spec, generators), optims, [Stage("adversarial", 1.0, phases)], gan_data())
