"""MAD-GAN with similarity, Ghosh et al. 2018, arXiv:1704.02906, section 3.3. Generators whose samples from one z are alike pay.

G_i: min -log D_data(G_i(z)) + weight sum over j != i of [cos(phi(G_i(z)), phi(G_j(z)))]+, phi the last hidden layer of D. D as
in mad-gan.
"""

from gancore import agents
from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def mad_gan_sim(generators: int = 8, weight: float = 1.0, lr: float = 2e-4) -> Recipe:
    """generators: K. weight: of likeness. lr: Adam's rate, betas (0.5, 0.999)."""

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        same = batch["z"][: max(1, len(batch["z"]) // generators)]
        return {**agents.generator(nets, batch, state), "likeness": agents.likeness(nets, same)}

    phases = [
        Phase("critic", {"D": {"critic": 1.0}}, agents.critic),
        Phase("generator", {"G": {"generator": 1.0, "likeness": weight}}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(lambda spec: agents.players(spec, generators), optims, [Stage("adversarial", 1.0, phases)], gan_data())
