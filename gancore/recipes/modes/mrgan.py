"""Mode-regularised GAN (MDGAN), Che et al. 2017, arXiv:1612.02136. An encoder E leads G to every mode; two critics, two steps.

Manifold: M tells x from G(E(x)); G, E: min distance |x - G(E(x))|^2 - E log s(M(G(E(x)))). Diffusion: D tells G(E(x)), which lie
near the data, from G(z); G: min -E log s(D(G(z))). Both critics: max E log s(.) + E log(1 - s(.)), the former as real.
"""

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def mrgan(distance: float = 1.0, codes: int = 8, lr: float = 2e-4) -> Recipe:
    """distance: weight of the reconstruction error. codes: size of z. lr: Adam's rate, betas (0.5, 0.999)."""

    def manifold_critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x = batch["x"]
        return {"critic": losses.non_saturating.critic(*scores(nets.M, x, nets.G(nets.E(x))))}

    def manifold(nets: Nets, batch: Batch, state: State) -> Terms:
        x = batch["x"]
        again = nets.G(nets.E(x))
        return {"distance": losses.squared_error(x, again), "generator": losses.non_saturating.generator(nets.M(again))}

    def diffusion_critic(nets: Nets, batch: Batch, state: State) -> Terms:
        near = nets.G(nets.E(batch["x"]))
        return {"critic": losses.non_saturating.critic(*scores(nets.D, near, nets.G(batch["z"])))}

    def diffusion(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"generator": losses.non_saturating.generator(nets.D(nets.G(batch["z"])))}

    route = {"distance": distance, "generator": 1.0}
    phases = [
        Phase("manifold critic", {"M": {"critic": 1.0}}, manifold_critic),
        Phase("manifold", {"G": route, "E": route}, manifold),
        Phase("diffusion critic", {"D": {"critic": 1.0}}, diffusion_critic),
        Phase("diffusion", {"G": {"generator": 1.0}}, diffusion),
    ]
    return Recipe(
        nets=lambda spec: players(spec, codes),
        optims={player: adam(lr) for player in "GEMD"},
        stages=[Stage("adversarial", 1.0, phases)],
        data=gan_data(),
        apply=lambda nets, x: nets.E(x),
    )


def players(spec: DataSpec, codes: int) -> dict:
    """G, its encoder E, and the critics M of the manifold step and D of the diffusion step."""
    pair = {"G": nets.generator(spec, latent=codes), "E": nets.encoder(spec, codes)}
    return {**pair, "M": nets.critic(spec), "D": nets.critic(spec)}
