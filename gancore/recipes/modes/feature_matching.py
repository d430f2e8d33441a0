"""Feature matching, Salimans et al. 2016, arXiv:1606.03498, section 3.1. G matches the mean features of data, not D's verdict.

D: min -log D(x) - log(1 - D(g)). G: min |E h(x) - E h(g)|^2, h the last hidden layer of D.
"""

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def feature_matching(critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """critic_steps: updates of D for each one of G. lr: Adam's rate, betas (0.5, 0.999)."""

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"critic": losses.non_saturating.critic(*scores(nets.D, batch["x"], nets.G(batch["z"])))}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = nets.D.features(batch["x"]), nets.D.features(nets.G(batch["z"]))
        return {"features": (real.mean(0) - fake.mean(0)).square().sum()}

    phases = [
        Phase("critic", {"D": {"critic": 1.0}}, critic, repeats=critic_steps),
        Phase("generator", {"G": {"features": 1.0}}, generator, whole_batch=True),
    ]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(nets.gan, optims, [Stage("adversarial", 1.0, phases)], gan_data())
