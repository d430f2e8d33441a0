"""Mean feature matching IPM, Mroueh et al. 2017, arXiv:1702.08398, section 3. The critic is linear in bounded features Phi.

min over G, max over Phi and |v|_p <= 1 of <v, E Phi(x) - E Phi(g)>. primal: v learns beside Phi and is brought back to its ball;
otherwise the best v of each batch is put in and leaves the dual norm |E Phi(x) - E Phi(g)|_q, 1/p + 1/q = 1. Phi is clipped.
"""

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, recipe, rmsprop
from gancore.layers import Direction
from gancore.regularizers import clip_weights


@recipe
def ipm_fm(
    primal: bool = True, norm: float = 2.0, features: int = 64, clip_value: float = 0.1, critic_steps: int = 5, lr: float = 5e-4
) -> Recipe:
    """primal: whether v learns. norm: p, 1, 2 or inf. features: size of Phi. clip_value: the box of Phi's weights. critic_steps:
    updates of Phi for each one of G. lr: RMSProp's rate."""

    def distance(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = scores(nets.D, batch["x"], nets.G(batch["z"]))
        found = nets.V(real.mean(0) - fake.mean(0)) if primal else losses.mean_distance(real, fake, norm)
        return {"distance": found}

    def constrain(nets: Nets, state: State, terms: Terms) -> None:
        clip(nets, state, terms)
        if primal:
            nets.V.retract()

    def players(spec: DataSpec) -> dict:
        found = {**nets.gan(spec, norm=False, outputs=features)}
        return {**found, "V": Direction(features, norm)} if primal else found

    clip, ascent = clip_weights("D", clip_value), {"distance": -1.0}
    critics = ("D", "V") if primal else ("D",)
    phases = [
        Phase("critic", dict.fromkeys(critics, ascent), distance, repeats=critic_steps, after=constrain, whole_batch=True),
        Phase("generator", {"G": {"distance": 1.0}}, distance, whole_batch=True),
    ]
    optims = {player: rmsprop(lr) for player in (*critics, "G")}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())
