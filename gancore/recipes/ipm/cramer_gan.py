"""Cramer GAN, Bellemare et al. 2017, arXiv:1705.10743. Energy distance between learnt features h, whose gradients are unbiased.

f(x) = E|h(x) - h(g')| - |h(x)|, g' independent fakes. h: min E f(g) - E f(x) + penalty E(|grad f(u)| - 1)^2, u between x and g.
G: min 2 E|h(x) - h(g)| - E|h(g) - h(g')| (algorithm 1). Expectations over pairs take all pairs of a batch.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from gancore import losses, nets
from gancore.adversarial import scores
from gancore.core import Batch, Data, Field, Nets, Phase, Recipe, Stage, State, Terms, adam, noise, recipe
from gancore.kernels import energy, mmd2, witness
from gancore.penalties import gradient_penalty


@recipe
def cramer_gan(penalty: float = 10.0, features: int = 256, critic_steps: int = 5, lr: float = 1e-4) -> Recipe:
    """penalty: weight of the gradient penalty. features: size of h's output. critic_steps: updates of h for each one of G.
    lr: Adam's rate, betas (0.5, 0.9)."""

    def judge(h: Callable[[Tensor], Tensor], others: Tensor) -> Callable[[Tensor], Tensor]:
        # With the kernel -|a - b|, f is the witness between one point at 0 and the other fakes.
        far = h(others)
        return lambda t: witness(h(t), far.new_zeros(1, far.shape[1]), far, energy())

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x, g = batch["x"], nets.G(batch["z"])
        f = judge(nets.D, nets.G(batch["others"]))
        real, fake = f(x), f(g)
        return {"critic": losses.wasserstein.critic(real, fake), "penalty": gradient_penalty(f, x, g)}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"energy": mmd2(*scores(nets.D, batch["x"], nets.G(batch["z"])), energy())}

    phases = [
        Phase("critic", {"D": {"critic": 1.0, "penalty": penalty}}, critic, repeats=critic_steps, whole_batch=True),
        Phase("generator", {"G": {"energy": 1.0}}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr, betas=(0.5, 0.9)) for player in ("G", "D")}
    data: Data = {"x": Field("x"), "z": noise("G"), "others": noise("G")}
    return Recipe(partial(nets.gan, norm=False, outputs=features), optims, [Stage("adversarial", 1.0, phases)], data)
