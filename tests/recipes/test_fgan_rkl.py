"""fgan-rkl: the bound is 0.500 within 0.03; one normal law on two modes takes one of them."""

import torch

from gancore.divergences import REVERSE_KL
from gancore.recipes import get
from tests.accept import Clause, at_most, between
from tests.one_gaussian import bound, width_on_two_modes


def accept(seed: int) -> list[Clause]:
    return [
        between("bound, N(0,1) against N(1,1)", bound("fgan-rkl", REVERSE_KL, seed), 0.47, 0.53),
        at_most("width of one normal law on two modes", width_on_two_modes("fgan-rkl", seed, start=2.0), 1.0),
    ]


def test_the_game_is_on_that_divergence():
    phases = get("fgan-rkl").function(strong=False).stages[0].phases
    nets = torch.nn.ModuleDict({"D": torch.nn.Flatten(0), "G": torch.nn.Identity()})
    batch = {"x": torch.randn(8, 1), "z": torch.randn(8, 1)}
    x, g = batch["x"][:, 0], batch["z"][:, 0]
    torch.testing.assert_close(phases[0].loss(nets, batch, None)["critic"], -REVERSE_KL.bound(x, g))
    torch.testing.assert_close(phases[1].loss(nets, batch, None)["generator"], -REVERSE_KL.cost(g))
