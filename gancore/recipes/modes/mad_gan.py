"""Multi-agent diverse GAN, Ghosh et al. 2018, arXiv:1704.02906. D tells K generators apart, which drives each to modes of its own.

D: min cross-entropy over K + 1 classes, fakes by their generator and data the last. G_i: min -log D_data(G_i(z)).
"""

from functools import partial

from torch.nn import functional as F

from gancore import nets
from gancore.adversarial import gan_data
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.nets.several import Several


@recipe
def mad_gan(generators: int = 8, lr: float = 2e-4) -> Recipe:
    """generators: K. lr: Adam's rate, betas (0.5, 0.999)."""
    phases = [Phase("critic", {"D": {"critic": 1.0}}, critic), Phase("generator", {"G": {"generator": 1.0}}, generator)]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(lambda spec: players(spec, generators), optims, [Stage("adversarial", 1.0, phases)], gan_data())


def critic(nets: Nets, batch: Batch, state: State) -> Terms:
    """D's term: which generator, or data."""
    real, fake = nets.D(batch["x"]), nets.D(nets.G(batch["z"]))
    which = nets.G.which(len(fake)).to(fake.device)
    data = which.new_full((len(real),), real.shape[1] - 1)
    return {"critic": F.cross_entropy(real, data, reduction="none") + F.cross_entropy(fake, which, reduction="none")}


def generator(nets: Nets, batch: Batch, state: State) -> Terms:
    """The generators' term: to be taken for data."""
    scores = nets.D(nets.G(batch["z"]))
    return {"generator": F.cross_entropy(scores, batch["z"].new_full((len(scores),), scores.shape[1] - 1).long(), reduction="none")}


def players(spec: DataSpec, generators: int) -> dict:
    """G of so many generators, and D with a score for each and for data."""
    return {"G": Several(generators, partial(nets.generator, spec)), "D": nets.critic(spec, outputs=generators + 1)}
