"""VEEGAN, Srivastava et al. 2017, arXiv:1705.07761. A reconstructor F maps data back to codes, and errors are measured there.

D: min softplus(-D(g, z)) + softplus(D(x, F(x))). G, F: min E D(g, z) + weight E |z - F(g)|^2 (algorithm 1). F(v) is normal around
a network's output, so that codes of data spread as z does.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from gancore import losses, nets
from gancore.adversarial import gan_data
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.nets.joint import JointCritic


@recipe
def veegan(codes: int = 2, noise: float = 0.3, weight: float = 0.1, lr: float = 2e-4) -> Recipe:
    """codes: size of z, at most that of a sample. noise: deviation of F's output. weight: of the reconstruction of z. lr: Adam's
    rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x, z = batch["x"], batch["z"]
        return {"critic": F.softplus(-nets.D(nets.G(z), z)) + F.softplus(nets.D(x, around(nets.F, x)))}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        z = batch["z"]
        fake = nets.G(z)
        return {"generator": nets.D(fake, z), "reconstruction": losses.squared_error(z, nets.F(fake))}

    def around(reconstructor: nn.Module, x: Tensor) -> Tensor:
        mean = reconstructor(x)
        return mean + noise * mean.new_empty(mean.shape).normal_()

    def players(spec: DataSpec) -> dict:
        return {"G": nets.generator(spec, latent=codes), "F": nets.encoder(spec, codes), "D": JointCritic(spec, codes)}

    descent = {"G": {"generator": 1.0, "reconstruction": weight}, "F": {"reconstruction": weight}}
    phases = [Phase("critic", {"D": {"critic": 1.0}}, critic), Phase("generator", descent, generator)]
    optims = {player: adam(lr) for player in ("G", "F", "D")}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())
