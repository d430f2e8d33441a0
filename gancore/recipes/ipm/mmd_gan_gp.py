"""MMD GAN with a gradient penalty, Binkowski et al. 2018, arXiv:1801.01401. Rational quadratic kernels, a smooth witness.

h: max M(h(x), h(g)) - penalty E(|grad w(u)| - 1)^2, G: min M, with M the unbiased squared MMD, w(u) = mean k(h(u), h(x)) -
mean k(h(u), h(g)) its witness, u between x and g, and k = sum over a of (1 + |p - q|^2 / (2 a))^-a + dot p.q.
"""

from functools import partial

from gancore import nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.kernels import linear, mmd2, rational_quadratic, witness
from gancore.penalties import gradient_penalty


@recipe
def mmd_gan_gp(
    alphas: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0), dot: float = 1.0, penalty: float = 1.0, features: int = 16,
    critic_steps: int = 5, lr: float = 1e-4,
) -> Recipe:  # fmt: skip
    """alphas: of the rational quadratic kernels. dot: weight of the linear kernel. penalty: weight of the gradient penalty.
    features: size of h's output. critic_steps: updates of h for each one of G. lr: Adam's rate, betas (0.5, 0.9)."""
    kernel = rational_quadratic(alphas)
    kernel = kernel + dot * linear() if dot else kernel

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x, g = batch["x"], nets.G(batch["z"])
        real, fake = scores(nets.D, x, g)
        slope = gradient_penalty(lambda t: witness(nets.D(t), real, fake, kernel), x, g)
        return {"mmd2": mmd2(real, fake, kernel), "penalty": slope}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"mmd2": mmd2(*scores(nets.D, batch["x"], nets.G(batch["z"])), kernel)}

    phases = [
        Phase("critic", {"D": {"mmd2": -1.0, "penalty": penalty}}, critic, repeats=critic_steps, whole_batch=True),
        Phase("generator", {"G": {"mmd2": 1.0}}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr, betas=(0.5, 0.9)) for player in ("G", "D")}
    return Recipe(partial(nets.gan, norm=False, outputs=features), optims, [Stage("adversarial", 1.0, phases)], gan_data())
