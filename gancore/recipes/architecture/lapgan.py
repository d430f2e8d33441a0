"""LAPGAN, Denton et al. 2015, arXiv:1506.05751. One GAN for each band of a Laplacian pyramid, told the smooth image beneath it.

h = x_k - l, l = up(down(x_k)), x_k+1 = down(x_k). D_k: max E log s(D_k(h, l)) + E log(1 - s(D_k(G_k(z, l), l))), G_k: max E log
s(D_k(G_k(z, l), l)); the coarsest pair is told nothing. Samples: x_k = up(x_k+1) + G_k(z, up(x_k+1)). The paper's
class-conditional kind (CC-LAPGAN) tells every player the label too, here as one-hot features.
"""

from torch import Tensor, nn

from gancore import losses
from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.nets.pyramid import Pyramid, PyramidCritic, down, up


@recipe
def lapgan(levels: int = 2, coarse: float = 1.0, conditional: bool = False, lr: float = 2e-4) -> Recipe:
    """levels: GANs, each for images of half the side of the one before, trained one after the other from the coarsest. coarse: its
    steps for each one of a finer level. conditional: labels are told. lr: Adam's rate, betas (0.5, 0.999)."""
    labels = "concat" if conditional else ""

    def stage(k: int) -> Stage:
        def critic(nets: Nets, batch: Batch, state: State) -> Terms:
            judge, real, fake, told = band(nets, batch, k)
            return {f"critic {k}": losses.non_saturating.critic(judge(real, *told), judge(fake, *told))}

        def generator(nets: Nets, batch: Batch, state: State) -> Terms:
            judge, _, fake, told = band(nets, batch, k)
            return {f"generator {k}": losses.non_saturating.generator(judge(fake, *told))}

        kinds = {"critic": ("D", critic), "generator": ("G", generator)}
        phases = [Phase(f"{name} {k}", {player: {f"{name} {k}": 1.0}}, loss) for name, (player, loss) in kinds.items()]
        return Stage(f"level {k}", coarse if k == levels - 1 else 1.0, phases)

    return Recipe(
        nets=lambda spec: {"G": Pyramid(spec, levels, labels), "D": PyramidCritic(spec, levels, labels)},
        optims={"G": adam(lr), "D": adam(lr)},
        stages=[stage(k) for k in reversed(range(levels))],
        data=gan_data(conditional),
    )


def band(nets: Nets, batch: Batch, k: int) -> tuple[nn.Module, Tensor, Tensor, tuple[Tensor, ...]]:
    """Of level k, 0 the finest: critic, detail of the data, a fake one, and what both players are told: the smooth image of both
    details, none for the coarsest, and their label if there is one."""
    x, z = batch["x"], nets.G.noise(batch["z"])[k]
    told = (batch["y"],) if "y" in batch else ()
    for _ in range(k):
        x = down(x)
    if k < len(nets.G.members) - 1:
        smooth = up(down(x))
        x, told = x - smooth, (smooth, *told)
    return nets.D.members[k], x, nets.G.members[k](z, *told), told
