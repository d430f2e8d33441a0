"""Unrolled GAN, Metz et al. 2017, arXiv:1611.02163. G answers the D that would be, K steps of learning ahead.

theta_0 = D's weights, theta_k+1 = theta_k - rate grad f(theta_k), f D's loss on the batch, or Adam's step in the place of that;
G: min -E log D(g; theta_K); its gradient passes through all K steps (eqs. 6 to 8). D itself learns as usual, from where it was.
"""

from typing import Any

from torch.func import functional_call

from gancore import losses, nets, unrolling
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def unrolled(ahead: int = 5, rate: float = 0.1, depth: int = 1, units: int = 64, codes: int = 16, lr: float = 1e-3) -> Recipe:
    """ahead: K. rate: of the gradient descent that is unrolled; 0 for D's own Adam, from where it stands. depth, units: hidden
    layers of D and their ReLU units, where its body is an MLP. codes: size of z. lr: Adam's rate, betas (0.5, 0.999)."""
    pair = losses.non_saturating

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"critic": pair.critic(*scores(nets.D, batch["x"], nets.G(batch["z"])))}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        fake = nets.G(batch["z"])
        loss = lambda weights: pair.critic(*(functional_call(nets.D, weights, (x,)) for x in (batch["x"], fake))).mean()
        rule = unrolling.descent(rate) if rate else unrolling.own_rule(state.optims["D"], nets.D)
        return {"generator": pair.generator(functional_call(nets.D, unrolling.unroll(nets.D, loss, ahead, rule), (fake,)))}

    def players(spec: DataSpec) -> dict:
        shallow: dict[str, Any] = {"depth": depth, "width": units, "slope": 0.0} if spec.net == "toy" else {}
        return {"G": nets.generator(spec, latent=codes), "D": nets.critic(spec, norm=False, **shallow)}

    phases = [
        Phase("critic", {"D": {"critic": 1.0}}, critic),
        Phase("generator", {"G": {"generator": 1.0}}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())
