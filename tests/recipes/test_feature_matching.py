"""feature-matching: 8 modes of ring8 at a share of 0.30; G's gradient does not know D's last layer."""

import torch

from gancore.core import DataSpec, Nets, State
from gancore.recipes import get
from tests.accept import Clause, ring, seeded


def accept(seed: int) -> list[Clause]:
    return ring("feature-matching", 0.30, seed, modes=8)[1]


def generator_gradient(change: float, what: str) -> list[torch.Tensor]:
    recipe = get("feature-matching").function()
    with seeded(0):
        nets = Nets(recipe.nets(DataSpec((2,), width=8)))
        batch = {"x": torch.randn(16, 2), "z": torch.randn(16, 8)}
    {"last": nets.D.body.head, "first": nets.D.body.hidden[0]}[what].weight.data.mul_(change)
    nets.D.requires_grad_(False)
    loss = recipe.stages[0].phases[1].loss(nets, batch, State())["features"]
    return list(torch.autograd.grad(loss, list(nets.G.parameters())))


def test_the_last_layer_of_the_critic_has_no_part_in_the_generators_gradient():
    before, after = generator_gradient(1.0, "last"), generator_gradient(7.0, "last")
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(before[0], generator_gradient(7.0, "first")[0])


def test_means_are_matched_and_not_samples():
    recipe = get("feature-matching").function()
    nets = Nets({"D": torch.nn.Module(), "G": torch.nn.Identity()})
    nets.D.features = lambda x: x
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    term = recipe.stages[0].phases[1].loss
    assert term(nets, {"x": x, "z": x.flip(0)}, State())["features"] == 0
    assert term(nets, {"x": x, "z": x + torch.tensor([3.0, 4.0])}, State())["features"] == 25
