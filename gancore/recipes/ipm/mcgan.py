"""McGan, Mroueh et al. 2017, arXiv:1702.08398. Mean and covariance of learnt features Phi are matched.

min over G, max over Phi, |v|_2 <= 1, U and V with orthonormal columns of <v, E Phi(x) - E Phi(g)> + Tr U' (S(x) - S(g)) V, S =
E Phi Phi' (eq. 12). The best v leaves |E Phi(x) - E Phi(g)|_2, the best U and V the sum of the k largest singular values. After
each step Phi's weights are clipped, v comes back to its ball, U and V to orthonormal columns by QR.
"""

from torch import Tensor

from gancore import nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, recipe, rmsprop
from gancore.layers import Direction, Frames
from gancore.regularizers import clip_weights


@recipe
def mcgan(
    features: int = 16, components: int = 16, clip_value: float = 0.1, critic_steps: int = 5, lr: float = 5e-4
) -> Recipe:
    """features: size of Phi. components: k. clip_value: the box of Phi's weights. critic_steps: updates of Phi, v, U and V for each
    one of G. lr: RMSProp's rate."""

    def distances(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = scores(nets.D, batch["x"], nets.G(batch["z"]))
        return {"mean": nets.V(real.mean(0) - fake.mean(0)), "covariance": nets.C(second(real) - second(fake))}

    def constrain(nets: Nets, state: State, terms: Terms) -> None:
        clip(nets, state, terms)
        nets.V.retract()
        nets.C.retract()

    def players(spec: DataSpec) -> dict:
        return {**nets.gan(spec, norm=False, outputs=features), "V": Direction(features), "C": Frames(features, components)}

    clip = clip_weights("D", clip_value)
    ascent = {"D": {"mean": -1.0, "covariance": -1.0}, "V": {"mean": -1.0}, "C": {"covariance": -1.0}}
    phases = [
        Phase("critic", ascent, distances, repeats=critic_steps, after=constrain, whole_batch=True),
        Phase("generator", {"G": {"mean": 1.0, "covariance": 1.0}}, distances, whole_batch=True),
    ]
    optims = {player: rmsprop(lr) for player in ("G", *ascent)}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())


def second(features: Tensor) -> Tensor:
    """E Phi Phi' of features (N, C), (C, C)."""
    return features.T @ features / len(features)
