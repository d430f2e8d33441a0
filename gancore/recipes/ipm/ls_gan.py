"""Loss-sensitive GAN, Qi 2017, arXiv:1701.06264. A loss L lies lower at data than at fakes by a margin that grows with distance.

L: min E L(x) + weight E [Delta(x, g) + L(x) - L(g)]+ over random pairs, Delta = scale |x - g|_1 (eq. 5). G: min E L(g) (eq. 6).
Weight decay keeps L Lipschitz. D's score here is L.
"""

from functools import partial

from torch.nn import functional as F

from gancore import nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def ls_gan(scale: float = 1.0, weight: float = 1.0, first: float = 0.0, decay: float = 1e-5, lr: float = 2e-4) -> Recipe:
    """scale: of the margin, on the sum over a sample's numbers. weight: of the margin's term. first: of E L(x), 0 in the author's
    code. decay: of D's weights. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x, g = batch["x"], nets.G(batch["z"])
        real, fake = scores(nets.D, x, g)
        margin = scale * (x - g).abs().flatten(1).sum(1)
        return {"real": real, "margin": F.relu(margin + real - fake)}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"generator": nets.D(nets.G(batch["z"]))}

    descent = {"margin": weight, **({"real": first} if first else {})}
    phases = [Phase("critic", {"D": descent}, critic), Phase("generator", {"G": {"generator": 1.0}}, generator)]
    optims = {"G": adam(lr), "D": adam(lr, weight_decay=decay)}
    return Recipe(partial(nets.gan, norm=False), optims, [Stage("adversarial", 1.0, phases)], gan_data())
