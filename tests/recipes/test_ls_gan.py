"""ls-gan: RING(0.60); pairs beyond their margin give L exactly no gradient, and the margin is each pair's own."""

import torch

from gancore.core import Nets, State
from gancore.recipes import get
from tests.accept import Clause, ring


def accept(seed: int) -> list[Clause]:
    return ring("ls-gan", 0.60, seed)[1]


def margins(x: torch.Tensor, g: torch.Tensor, score, **parameters: float) -> torch.Tensor:
    nets = Nets({"D": torch.nn.Identity(), "G": torch.nn.Identity()})
    nets["D"].forward = score
    return get("ls-gan").function(**parameters).stages[0].phases[0].loss(nets, {"x": x, "z": g}, State())["margin"]


def test_pairs_beyond_their_margin_give_no_gradient():
    x, g = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])
    scores = torch.tensor([0.0, 0.0, 1.5, 0.5], requires_grad=True)  # L of both data, then of both fakes
    given = iter((scores[:2], scores[2:]))
    (slope,) = torch.autograd.grad(margins(x, g, lambda _: next(given)).sum(), scores)
    assert slope.tolist() == [0.0, 1.0, 0.0, -1.0]


def test_the_margin_is_the_pairs_distance():
    x = torch.zeros(3, 2)
    g = torch.tensor([[1.0, 1.0], [0.5, 0.0], [3.0, -1.0]])
    found = margins(x, g, lambda v: v.sum(1) * 0, scale=2.0)
    torch.testing.assert_close(found, torch.tensor([4.0, 1.0, 8.0]))
    assert found.std() > 0


def test_weight_decay_is_on_the_critic_alone():
    optims = get("ls-gan").function(decay=0.125).optims
    assert optims["D"].settings["weight_decay"] == 0.125
    assert optims["G"].settings["weight_decay"] == 0
