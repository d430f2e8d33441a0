"""ipm-fm: RING(0.45); best v and learnt v reach the dual norm; with p = inf it is the value of WGAN's critic in the same box."""

import pytest
import torch

from gancore import losses
from gancore.layers import Direction
from tests.accept import Clause, ring, seeded

DUALS = {1: torch.inf, 2: 2, torch.inf: 1}


def accept(seed: int) -> list[Clause]:
    return ring("ipm-fm", 0.45, seed, lr=5e-4)[1]


def best(difference: torch.Tensor, norm: float) -> torch.Tensor:
    """v of norm 1 that makes <v, difference> largest."""
    if norm == 2:
        return difference / difference.norm()
    if norm == 1:
        return torch.nn.functional.one_hot(difference.abs().argmax(), len(difference)) * difference.sign()
    return difference.sign()


@pytest.mark.parametrize("norm", DUALS)
def test_the_closed_form_reaches_the_dual_norm(norm):
    real, fake = torch.randn(64, 7, dtype=torch.float64), torch.randn(32, 7, dtype=torch.float64) + 0.3
    difference = real.mean(0) - fake.mean(0)
    v = best(difference, norm)
    assert abs(v.norm(norm) - 1) < 1e-12
    found = losses.mean_distance(real, fake, norm)
    torch.testing.assert_close(found, (v * difference).sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found, difference.norm(DUALS[norm]), rtol=1e-6, atol=0)
    others = torch.randn(1000, 7, dtype=torch.float64)
    others = others / others.norm(norm, dim=1, keepdim=True)
    assert (others @ difference).max() <= found + 1e-12


@pytest.mark.parametrize("norm", DUALS)
def test_the_direction_that_learns_reaches_the_dual_norm_too(norm):
    with seeded(0):
        difference, direction = torch.randn(7), Direction(7, norm)
    optimizer = torch.optim.SGD(direction.parameters(), 0.1)
    for _ in range(300):
        assert direction.v.norm(norm) <= 1 + 1e-6
        optimizer.zero_grad()
        (-direction(difference)).backward()
        optimizer.step()
        direction.retract()
    torch.testing.assert_close(direction(difference), difference.norm(DUALS[norm]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", DUALS)
def test_a_retraction_is_the_nearest_point_of_the_ball(norm):
    with seeded(1):
        direction, others = Direction(4, norm), torch.randn(4000, 4)
    others = others / others.norm(norm, dim=1, keepdim=True)
    outside = torch.tensor([1.5, -0.7, 0.2, 0.0])
    with torch.no_grad():
        direction.v.copy_(outside)
        direction.retract()
        assert abs(direction.v.norm(norm) - 1) < 1e-6
        assert (others - outside).norm(dim=1).min() >= (direction.v - outside).norm() - 1e-6
        inside = 0.3 * direction.v.clone()
        direction.v.copy_(inside)
        direction.retract()
    torch.testing.assert_close(direction.v.detach(), inside)


def test_with_p_infinite_it_is_the_value_of_wgans_critic():
    """A critic <v, Phi> whose v fills WGAN's box [-c, c] has the gap c |E Phi(x) - E Phi(g)|_1."""
    real, fake, c = torch.randn(64, 7, dtype=torch.float64), torch.randn(64, 7, dtype=torch.float64), 0.01
    v = c * (real.mean(0) - fake.mean(0)).sign()
    gap = -losses.wasserstein.critic(real @ v, fake @ v).mean()
    torch.testing.assert_close(c * losses.mean_distance(real, fake, torch.inf), gap, rtol=1e-6, atol=0)


def test_equal_means_have_a_derivative():
    x = torch.zeros(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(losses.mean_distance(x, torch.zeros(4, 3)), x)
    assert slope.isfinite().all()
