"""LAPGAN, Denton et al. 2015, arXiv:1506.05751. One GAN for each band of a Laplacian pyramid, told the smooth image beneath it.

h = x_k - l, l = up(down(x_k)), x_k+1 = down(x_k). D_k: max E log s(D_k(h, l)) + E log(1 - s(D_k(G_k(z, l), l))), G_k: max E log
s(D_k(G_k(z, l), l)); the coarsest pair is told nothing. Samples: x_k = up(x_k+1) + G_k(z, up(x_k+1)).
"""

from collections.abc import Iterator

from torch import Tensor, nn

from gancore import losses
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.nets.pyramid import Pyramid, PyramidCritic, down, up


@recipe
def lapgan(levels: int = 2, lr: float = 2e-4) -> Recipe:
    """levels: GANs, each for images of half the side of the one before. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        pairs = (scores(judge, real, fake, *told, *told) for judge, real, fake, told in bands(nets, batch))
        return {f"critic {k}": losses.non_saturating.critic(*pair) for k, pair in enumerate(pairs)}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        found = (judge(fake, *told) for judge, _, fake, told in bands(nets, batch))
        return {f"generator {k}": losses.non_saturating.generator(score) for k, score in enumerate(found)}

    def all_levels(name: str) -> dict:
        return {f"{name} {k}": 1.0 for k in range(levels)}

    phases = [Phase("critic", {"D": all_levels("critic")}, critic), Phase("generator", {"G": all_levels("generator")}, generator)]
    return Recipe(
        nets=lambda spec: {"G": Pyramid(spec, levels), "D": PyramidCritic(spec, levels)},
        optims={"G": adam(lr), "D": adam(lr)},
        stages=[Stage("adversarial", 1.0, phases)],
        data=gan_data(),
    )


def bands(nets: Nets, batch: Batch) -> Iterator[tuple[nn.Module, Tensor, Tensor, tuple[Tensor, ...]]]:
    """Of each level, finest first: critic, detail of the data, a fake one and the smooth image of both, none for the coarsest."""
    x = batch["x"]
    *noise, code = nets.G.noise(batch["z"])
    for k, z in enumerate(noise):
        coarse = down(x)
        smooth = up(coarse)
        yield nets.D.members[k], x - smooth, nets.G.members[k](z, smooth), (smooth,)
        x = coarse
    yield nets.D.members[-1], x, nets.G.members[-1](code), ()
