"""Energy-based GAN, Zhao et al. 2017, arXiv:1609.03126. D is an auto-encoder; its squared error is the energy of a sample.

D: min E(x) + [margin - E(g)]+, G: min E(g) + pull_away PT, PT = mean over pairs i != j of cos^2(S_i, S_j), S the codes of the
fakes (eqs. 1 to 4), E(v) = |v - AE(v)|^2.
"""

from gancore import energies
from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def ebgan(margin: float = 5.0, pull_away: float = 0.0, codes: int = 16, lr: float = 1e-3) -> Recipe:
    """margin: energy beyond which fakes no longer concern D. pull_away: weight of PT, 0.1 in the paper. codes: size of the
    auto-encoder's code. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return energies.hinge(nets, batch, margin)

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        fake = nets.G(batch["z"])
        terms = {"energy": energies.energy(nets.D, fake)}
        return {**terms, "pull_away": energies.pull_away(nets.D.codes(fake))} if pull_away else terms

    descent = {"energy": 1.0, **({"pull_away": pull_away} if pull_away else {})}
    phases = [
        Phase("critic", {"D": {"real": 1.0, "margin": 1.0}}, critic),
        Phase("generator", {"G": descent}, generator, whole_batch=bool(pull_away)),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(energies.players(codes), optims, [Stage("adversarial", 1.0, phases)], gan_data())
