"""Balance of D and G, Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1 (k steps of D). Step ratio, rate ratio, accuracy gate.

D: max E log D(x) + E log(1 - D(g)), `critic_steps` times at rate ratio * lr, and not while it is right about more than `gate` of a
batch; G: max E log D(g), or min E log(1 - D(g)) where saturating, `generator_steps` times at rate lr.
"""

from dataclasses import replace

import torch

from gancore import losses
from gancore.adversarial import adversarial, scores
from gancore.core import Batch, Nets, Recipe, State, adam, recipe


@recipe
def dg_balance(
    critic_steps: int = 1, generator_steps: int = 1, ratio: float = 1.0, gate: float = 1.0, smoothing: float = 0.8,
    saturating: bool = False, lr: float = 2e-4,
) -> Recipe:  # fmt: skip
    """critic_steps, generator_steps: updates of D and of G a step. ratio: D's learning rate over G's. gate: the accuracy above
    which D waits; 1 is no gate. smoothing: weight of the past in the running accuracy, which every step measures anew. saturating:
    G descends D's own value. lr: Adam's rate for G, betas (0.5, 0.999)."""
    pair = losses.minimax if saturating else losses.non_saturating
    game = adversarial(pair, {"G": adam(lr), "D": adam(ratio * lr)}, critic_steps=critic_steps)

    def measure(nets: Nets, batch: Batch, state: State) -> Batch:
        real, fake = scores(nets["D"], batch["x"], nets["G"](batch["z"]))
        state.accuracy.lerp_(torch.cat([real > 0, fake <= 0]).float().mean(), 1 - smoothing)
        return batch

    critic, generator = game.stages[0].phases
    critic = replace(critic, when=(lambda state: float(state.accuracy) <= gate) if gate < 1 else None)
    generator = replace(generator, repeats=generator_steps, prepare=measure)
    return replace(game, stages=[replace(game.stages[0], phases=[critic, generator])], state=lambda: State(accuracy=0.5))
