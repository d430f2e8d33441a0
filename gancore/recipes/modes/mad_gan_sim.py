"""MAD-GAN with similarity, Ghosh et al. 2018, arXiv:1704.02906, section 3.3. Generators whose samples from one z are alike pay.

G_i: min -log D_data(G_i(z)) + weight sum over j != i of [cos(phi(G_i(z)), phi(G_j(z)))]+, phi the last hidden layer of D. D as
in mad-gan.
"""

from torch import Tensor
from torch.nn import functional as F

from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.recipes.modes import mad_gan


@recipe
def mad_gan_sim(generators: int = 8, weight: float = 1.0, lr: float = 2e-4) -> Recipe:
    """generators: K. weight: of likeness. lr: Adam's rate, betas (0.5, 0.999)."""

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        same = batch["z"][: max(1, len(batch["z"]) // generators)]
        return {**mad_gan.generator(nets, batch, state), "likeness": likeness(nets, same)}

    descent = {"generator": 1.0, "likeness": weight}
    phases = [
        Phase("critic", {"D": {"critic": 1.0}}, mad_gan.critic),
        Phase("generator", {"G": descent}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(lambda spec: mad_gan.players(spec, generators), optims, [Stage("adversarial", 1.0, phases)], gan_data())


def likeness(nets: Nets, z: Tensor) -> Tensor:
    """Mean over z of the sum over pairs of generators of the positive part of their samples' cosine in D's features, ()."""
    samples = nets.G.side_by_side(z)
    features = F.normalize(nets.D.features(samples.flatten(0, 1)).flatten(1), dim=1).unflatten(0, samples.shape[:2])
    cosines = F.relu(features.transpose(0, 1) @ features.permute(1, 2, 0))
    return (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)).mean()
