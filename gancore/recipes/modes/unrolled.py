"""Unrolled GAN, Metz et al. 2017, arXiv:1611.02163. G answers the D that would be, K steps of learning ahead.

theta_0 = D's weights, theta_k+1 = theta_k - rate grad f(theta_k), f D's loss on fresh noise; G: min -E log D(g; theta_K), whose
gradient passes through all K steps (eqs. 6 to 8). D itself learns as usual and keeps its weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe

Weights = dict[str, Tensor]


@recipe
def unrolled(ahead: int = 5, rate: float = 0.1, depth: int = 1, codes: int = 16, lr: float = 1e-3) -> Recipe:
    """ahead: K. rate: of the gradient descent that is unrolled. depth: hidden layers of D, where its body is an MLP. codes: size of
    z. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"critic": losses.non_saturating.critic(*scores(nets.D, batch["x"], nets.G(batch["z"])))}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        fake = nets.G(batch["z"])
        weights = unroll(nets.D, batch["x"], fake, ahead, rate)
        return {"generator": losses.non_saturating.generator(functional_call(nets.D, weights, (fake,)))}

    def players(spec: DataSpec) -> dict:
        shallow: dict[str, Any] = {"depth": depth} if spec.net == "toy" else {}
        return {"G": nets.generator(spec, latent=codes), "D": nets.critic(spec, norm=False, **shallow)}

    phases = [Phase("critic", {"D": {"critic": 1.0}}, critic), Phase("generator", {"G": {"generator": 1.0}}, generator)]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(players, optims, [Stage("adversarial", 1.0, phases)], gan_data())


def unroll(critic: nn.Module, real: Tensor, fake: Tensor, steps: int, rate: float) -> Weights:
    """A critic's weights after so many steps of descent on its loss, as functions of the fakes."""
    weights: Weights = {name: w.detach().requires_grad_() for name, w in critic.named_parameters()}
    for _ in range(steps):
        pair = (functional_call(critic, weights, (x,)) for x in (real, fake))
        loss = losses.non_saturating.critic(*pair).mean()
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: w - rate * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
    return weights
