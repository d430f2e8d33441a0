"""Fisher GAN, Mroueh and Sercu 2017, arXiv:1705.09675. The critic's second moment is held at 1, by an augmented Lagrangian.

Omega = (E f(x)^2 + E f(g)^2) / 2. f: max E f(x) - E f(g) + lambda (1 - Omega) - rho/2 (Omega - 1)^2, lambda <- lambda +
rho (Omega - 1). G: min -E f(g). At Omega = 1 the best f's gap is sqrt(2 int (p - q)^2 / (p + q)).
"""

from functools import partial

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.regularizers import fisher, fisher_multiplier, second_moment


@recipe
def fisher_gan(rho: float = 1e-6, critic_steps: int = 2, lr: float = 2e-4) -> Recipe:
    """rho: the quadratic weight and the multiplier's rate; runs of thousands of steps need 1e-2 for the multiplier to get anywhere.
    critic_steps: critic updates for each one of G. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = scores(nets.D, batch["x"], nets.G(batch["z"]))
        moment = second_moment(real, fake)
        constraint = fisher(moment, state.multiplier, rho)
        return {"critic": losses.wasserstein.critic(real, fake), "constraint": constraint, "moment": moment}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"generator": losses.wasserstein.generator(nets.D(nets.G(batch["z"])))}

    descent, ascend = {"critic": 1.0, "constraint": 1.0}, fisher_multiplier(rho=rho)
    phases = [
        Phase("critic", {"D": descent}, critic, repeats=critic_steps, after=ascend, whole_batch=True),
        Phase("generator", {"G": {"generator": 1.0}}, generator),
    ]
    return Recipe(
        nets=partial(nets.gan, norm=False),
        optims={player: adam(lr) for player in ("G", "D")},
        stages=[Stage("adversarial", 1.0, phases)],
        data=gan_data(),
        state=lambda: State(multiplier=0.0),
    )
