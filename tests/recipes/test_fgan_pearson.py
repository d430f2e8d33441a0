"""fgan-pearson: the bound is e - 1 within 0.1, and the critic that attains it is twice the ratio's excess over 1."""

import math

import torch

from gancore.divergences import PEARSON
from gancore.recipes import get
from tests.accept import Clause, at_most, between, critic_alone
from tests.one_gaussian import bound


def accept(seed: int) -> list[Clause]:
    return [
        between("bound, N(0,1) against N(1,1)", bound("fgan-pearson", PEARSON, seed), math.e - 1.1, math.e - 0.9),
        at_most("largest error of V against 2 (p/q - 1) on [-1, 2]", error_of_critic(seed), 0.3),
    ]


def error_of_critic(seed: int) -> float:
    trainer = critic_alone(get("fgan-pearson").function(lr=1e-3), mean=1.0, seed=seed)
    x = torch.linspace(-1, 2, 61)
    with torch.no_grad():
        return (trainer.nets["D"](x.unsqueeze(1)) - 2 * ((0.5 - x).exp() - 1)).abs().max().item()


def test_the_game_is_on_that_divergence():
    phases = get("fgan-pearson").function(strong=False).stages[0].phases
    nets = torch.nn.ModuleDict({"D": torch.nn.Flatten(0), "G": torch.nn.Identity()})
    batch = {"x": torch.randn(8, 1), "z": torch.randn(8, 1)}
    x, g = batch["x"][:, 0], batch["z"][:, 0]
    torch.testing.assert_close(phases[0].loss(nets, batch, None)["critic"], g**2 / 4 + g - x)
