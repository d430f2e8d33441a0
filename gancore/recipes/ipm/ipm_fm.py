"""Mean feature matching IPM, Mroueh et al. 2017, arXiv:1702.08398, section 3. The critic is linear in bounded features Phi.

min over G, max over Phi and |v|_p <= 1 of <v, E Phi(x) - E Phi(g)>; the best v is known, and what is left is the dual norm
|E Phi(x) - E Phi(g)|_q, 1/p + 1/q = 1. Phi's weights are clipped.
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, recipe, rmsprop
from gancore.regularizers import clip_weights


@recipe
def ipm_fm(norm: float = 2.0, features: int = 64, clip_value: float = 0.1, critic_steps: int = 5, lr: float = 5e-4) -> Recipe:
    """norm: p, 1, 2 or inf. features: size of Phi. clip_value: the box of Phi's weights. critic_steps: updates of Phi for each one
    of G. lr: RMSProp's rate."""

    def distance(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"distance": losses.mean_distance(*scores(nets.D, batch["x"], nets.G(batch["z"])), norm)}

    clip = clip_weights("D", clip_value)
    phases = [
        Phase("critic", {"D": {"distance": -1.0}}, distance, repeats=critic_steps, after=clip, whole_batch=True),
        Phase("generator", {"G": {"distance": 1.0}}, distance, whole_batch=True),
    ]
    optims = {player: rmsprop(lr) for player in ("G", "D")}
    players = partial(nets.gan, norm=False, outputs=features)
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())
