"""McGan, Mroueh et al. 2017, arXiv:1702.08398. Mean and covariance of learnt features Phi are matched.

min over G, max over Phi of |E Phi(x) - E Phi(g)|_2 + max over U, V with orthonormal columns of Tr U' (S(x) - S(g)) V, S = E Phi
Phi' (eq. 12); the second is the sum of the k largest singular values. Phi's weights are clipped, U and V are brought back to
orthonormal columns by QR.
"""

from torch import Tensor

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, recipe, rmsprop
from gancore.layers import Frames
from gancore.regularizers import clip_weights


@recipe
def mcgan(
    features: int = 16, components: int = 16, clip_value: float = 0.1, critic_steps: int = 5, lr: float = 5e-4
) -> Recipe:
    """features: size of Phi. components: k. clip_value: the box of Phi's weights. critic_steps: updates of Phi, U and V for each
    one of G. lr: RMSProp's rate."""

    def distances(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = scores(nets.D, batch["x"], nets.G(batch["z"]))
        return {"mean": losses.mean_distance(real, fake), "covariance": nets.C(second(real) - second(fake))}

    def constrain(nets: Nets, state: State, terms: Terms) -> None:
        clip(nets, state, terms)
        nets.C.retract()

    def players(spec: DataSpec) -> dict:
        return {**nets.gan(spec, norm=False, outputs=features), "C": Frames(features, components)}

    clip, ascent = clip_weights("D", clip_value), {"mean": -1.0, "covariance": -1.0}
    phases = [
        Phase(
            "critic", {"D": ascent, "C": {"covariance": -1.0}}, distances, repeats=critic_steps, after=constrain, whole_batch=True
        ),
        Phase("generator", {"G": {"mean": 1.0, "covariance": 1.0}}, distances, whole_batch=True),
    ]
    optims = {player: rmsprop(lr) for player in ("G", "D", "C")}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())


def second(features: Tensor) -> Tensor:
    """E Phi Phi' of features (N, C), (C, C)."""
    return features.T @ features / len(features)
