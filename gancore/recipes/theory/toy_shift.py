"""Additive toy generator, Goodfellow et al. 2014, arXiv:1406.2661, eq. 1. G(z) = z + t and one loss that D descends and t ascends.

L(t, phi) = -E log(1 - D(z + t)) - E log D(x), D logistic; phi descends L `critic_steps` times, then t ascends it, by its first sum.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gancore import losses
from gancore.adversarial import gan_data
from gancore.core import Batch, DataSpec, Nets, Options, Phase, Recipe, Stage, State, Terms, adam, demo
from gancore.data import Dataset
from gancore.figures import curves
from gancore.trainer import Trainer


class Shift(nn.Module):
    """z (N, 1) to z + t, t starting at 0."""

    latent = 1

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.t


def loss(nets: Nets, batch: Batch, state: State) -> Terms:
    """L by its two sums."""
    return {"real": losses.bce(nets["D"](batch["x"]), 1.0), "fake": losses.bce(nets["D"](nets["G"](batch["z"])), 0.0)}


def game(critic_steps: int, lr: float) -> Recipe:
    """Both phases hold the one loss; the sign of its weights tells descent from ascent."""
    down = Phase("discriminator", {"D": {"real": 1.0, "fake": 1.0}}, loss, repeats=critic_steps)
    stage = Stage("game", 1.0, [down, Phase("generator", {"G": {"real": -1.0, "fake": -1.0}}, loss)])
    return Recipe(lambda _: {"G": Shift(), "D": nn.Linear(1, 1)}, dict.fromkeys("GD", adam(lr)), [stage], gan_data())


@demo
def toy_shift(
    mean: float = 5.0, critic_steps: int = 20, shifts: int = 400, batch: int = 256, rate: float = 0.05, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """mean: of the data N(mean, 1). critic_steps: updates of D for one of t. shifts: updates of t. batch: samples of each law.
    rate: Adam's learning rate, falling linearly to a twentieth. stream: seeds networks and draws."""
    rows = Dataset("normal", {"x": mean + torch.randn(50_000, 1, generator=torch.Generator().manual_seed(stream))})
    options = Options(steps=shifts, batch_size=batch, seed=stream, schedule="linear")
    trainer = Trainer(game(critic_steps, rate), rows, options, DataSpec((1,)), torch.device("cpu"))
    path, values = [0.0], []
    with trainer.random():
        for _ in range(shifts):
            trainer.step()
            path.append(trainer.nets["G"].t.item())
            values.append(sum(v for k, v in trainer.tick().items() if k.startswith("generator/")))
    figures = {"mean of the data": float(rows.fields["x"].mean()), "final t": path[-1], "L at the end": values[-1]}
    return figures, curves({"t": (range(shifts + 1), path), "L": (range(1, shifts + 1), values)}, "updates of t", "")
