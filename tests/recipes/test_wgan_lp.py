"""wgan-lp: RING(0.65) with penalty 1; slopes below 1 cost nothing, and the critic's ends at 1 or below."""

import torch
from torch import nn

from gancore.core import Nets, State
from gancore.penalties import gradient_penalty
from gancore.recipes import get
from tests.accept import Clause, at_most, ring, seeded


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("wgan-lp", 0.65, seed, penalty=1.0, critic_steps=3)
    critic, generator = run.trainer.nets["D"], run.trainer.nets["G"]
    with seeded(seed):
        real = run.data.take(torch.randint(len(run.data), (4096,)))["x"]
        fake = generator(torch.randn(4096, generator.latent)).detach()
        slope = gradient_penalty(critic, real, fake, center=0.0, create_graph=False).sqrt()
    return [*clauses, at_most("mean slope of the critic", slope.mean().item(), 1.2)]


def cost(name: str, slope: float) -> float:
    """The penalty that a recipe's critic phase gives a linear critic of that slope."""
    critic, generator = nn.Linear(2, 1), nn.Linear(3, 2)
    critic.weight.data = slope * torch.tensor([[0.6, 0.8]])
    batch = {"x": torch.randn(16, 2), "z": torch.randn(16, 3)}
    terms = get(name).function().stages[0].phases[0].loss(Nets({"G": generator, "D": critic}), batch, State())
    return terms["penalty"].mean().item()


def test_slopes_below_one_are_free_and_above_cost_as_in_wgan_gp():
    with seeded(0):
        assert cost("wgan-lp", 0.5) == 0
        assert abs(cost("wgan-gp", 0.5) - 0.25) < 1e-5
        assert abs(cost("wgan-lp", 1.5) - 0.25) < 1e-5
