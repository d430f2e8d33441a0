"""fgan-tv: the bound is 0.383 within 0.02; T stays in [-1/2, 1/2]; the conjugate is the identity, so the game is an IPM's too."""

from dataclasses import replace

import torch

from gancore.divergences import TOTAL_VARIATION
from gancore.recipes import get
from tests.accept import Clause, between
from tests.one_gaussian import bound


def accept(seed: int) -> list[Clause]:
    return [between("bound, N(0,1) against N(1,1)", bound("fgan-tv", TOTAL_VARIATION, seed), 0.383 - 0.02, 0.383 + 0.02)]


def test_scores_of_any_size_stay_in_the_domain():
    t = TOTAL_VARIATION.output(torch.tensor([-1e9, -3.0, 0.0, 3.0, 1e9]))
    assert t.abs().max() <= 0.5
    assert (t.diff() > 0).all()


def test_the_conjugate_can_be_the_identity():
    nets = torch.nn.ModuleDict({"D": torch.nn.Flatten(0), "G": torch.nn.Identity()})
    batch = {"x": torch.randn(64, 1), "z": torch.randn(64, 1)}
    ours = get("fgan-tv").function().stages[0].phases[0].loss(nets, batch, None)["critic"]
    ipm = replace(TOTAL_VARIATION, cost=TOTAL_VARIATION.output).pair().critic(batch["x"][:, 0], batch["z"][:, 0])
    torch.testing.assert_close(ours, ipm, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours, 0.5 * (batch["z"].tanh() - batch["x"].tanh())[:, 0])
