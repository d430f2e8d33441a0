"""Generative moment matching network, Li et al. 2015, arXiv:1502.02761. G alone descends the MMD between its samples and data.

G: min sqrt M(x, g), or M itself; M is the biased squared MMD (eq. 2) of a sum of Gaussian kernels, over all pairs of a large batch.
"""

from gancore import losses, nets
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.kernels import gaussian, mmd2


@recipe
def gmmn(bandwidths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), root: bool = True, lr: float = 1e-3) -> Recipe:
    """bandwidths: of the Gaussian kernels, in units of the data. root: descend sqrt M, whose gradient does not fade as M does
    (section 3.2), or M. lr: Adam's rate, betas (0.5, 0.999)."""
    kernel = gaussian(bandwidths)

    def match(nets: Nets, batch: Batch, state: State) -> Terms:
        square = mmd2(nets.G(batch["z"]).flatten(1), batch["x"].flatten(1), kernel, estimator="biased")
        return {"mmd": losses.root(square) if root else square}

    return Recipe(
        nets=lambda spec: {"G": nets.generator(spec)},
        optims={"G": adam(lr)},
        stages=[Stage("match", 1.0, [Phase("match", {"G": {"mmd": 1.0}}, match, whole_batch=True)])],
    )
