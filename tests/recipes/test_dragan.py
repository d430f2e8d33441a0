"""dragan: 8 modes of ring8 at a share of 0.75 with penalty 0.1, noise 0.3; D's slope near the data is k; fakes have no part."""

from functools import partial

import torch

from gancore.core import DataSpec, Nets, State
from gancore.penalties import gradient_penalty
from gancore.recipes import get
from tests.accept import Clause, between, ring, seeded


def accept(seed: int) -> list[Clause]:
    _, clauses = ring("dragan", 0.75, seed, modes=8, penalty=0.1, noise=0.3)
    run, _ = ring("dragan", 0.0, seed, modes=0)
    with seeded(seed):
        real = run.data.take(torch.randint(len(run.data), (4096,)))["x"]
        slope = gradient_penalty(run.nets["D"], real, at="around", center=0.0, create_graph=False).sqrt()
    return [*clauses, between("mean slope of D around the data, penalty 10", slope.mean().item(), 0.7, 1.3)]


def penalty_at(x: torch.Tensor, z: torch.Tensor, **parameters: float) -> torch.Tensor:
    recipe = get("dragan").function(**parameters)
    with seeded(0):
        nets = Nets(recipe.nets(DataSpec((2,), width=8)))
        return recipe.stages[0].phases[0].loss(nets, {"x": x, "z": z}, State())["penalty"]


def test_fakes_have_no_part_in_the_penalty():
    with seeded(1):
        x, z = torch.randn(32, 2), torch.randn(32, 8)
    assert torch.equal(penalty_at(x, z), penalty_at(x, 5 * z))
    assert not torch.equal(penalty_at(x, z), penalty_at(x + 1, z))


def test_the_slope_wanted_and_the_noise_are_parameters():
    with seeded(1):
        x, z = torch.randn(32, 2), torch.randn(32, 8)
    near, far = penalty_at(x, z, k=0.0, noise=1e-6), penalty_at(x, z, k=3.0, noise=1e-6)
    slope = near.sqrt()
    torch.testing.assert_close(far, (slope - 3).square())
    assert not torch.equal(penalty_at(x, z, k=0.0), near)


def test_at_the_data_is_where_noise_goes_to_zero():
    with seeded(1):
        x, z = torch.randn(32, 2), torch.randn(32, 8)
    with seeded(0):
        critic = get("dragan").function().nets(DataSpec((2,), width=8))["D"]
    at_data = partial(gradient_penalty, critic, x, at="real", center=1.0)
    torch.testing.assert_close(penalty_at(x, z, noise=1e-7), at_data(), rtol=1e-3, atol=1e-5)
