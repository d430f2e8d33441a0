"""Control tasks: their rules, and best policies that follow from them."""

import math

import pytest
import torch

from gancore import data
from gancore.data import DataError
from gancore.data.toy.environments import Grid5


def test_grid_moves():
    grid = data.environment("grid5")
    state = torch.tensor([0, 0, 4, 23, 19, 24])
    after, reward, done = grid.step(state, torch.tensor([0, 2, 0, 0, 1, 2]))
    assert after.tolist() == [1, 0, 4, 24, 24, 24]
    assert reward.tolist() == [0, 0, 0, 1, 1, 0]
    assert done.tolist() == [False, False, False, True, True, True]
    assert grid.reset(1_000).max() < 24


def test_grid_values():
    grid = data.environment("grid5")
    steps = torch.tensor([8 - s // 5 - s % 5 for s in range(25)])
    expected = torch.where(steps > 0, 0.9 ** (steps - 1.0), torch.tensor(0.0))
    assert torch.allclose(grid.values(), expected)
    best = grid.best_actions()
    assert best[0].tolist() == [True, True, False, False]
    assert best[4].tolist() == [False, True, False, False]


def test_grid_that_slips_follows_its_transition():
    grid = Grid5(slip=0.4)
    assert torch.allclose(grid.transition.sum(2), torch.ones(4, 25))
    generator = torch.Generator().manual_seed(0)
    state, action = torch.full((20_000,), 7), torch.full((20_000,), 0)
    after = grid.step(state, action, generator)[0]
    seen = torch.bincount(after, minlength=25) / 20_000
    assert torch.allclose(seen, grid.transition[0, 7], atol=0.015)
    assert grid.transition[0, 7, 8].item() == pytest.approx(0.7)
    assert grid.values()[0] < data.environment("grid5").values()[0]


def test_best_gain_of_the_plant():
    plant = data.environment("lqr1")
    state = plant.reset(4_000, torch.Generator().manual_seed(0))

    def cost(k):
        x, total = state, torch.zeros(len(state))
        generator = torch.Generator().manual_seed(1)
        for t in range(60):
            x, reward, done = plant.step(x, -k * x, generator)
            total = total - plant.discount**t * reward
            assert not done.any()
        return total.mean().item()

    best = plant.gain()
    assert cost(best) < min(cost(0.9 * best), cost(1.1 * best), cost(0.5 * best))
    control = torch.zeros(3, 1, requires_grad=True)
    plant.step(torch.ones(3, 1), control)[0].sum().backward()
    assert control.grad.flatten().tolist() == [0.5] * 3


def test_cart():
    cart = data.environment("cart")
    # Resting upright, pushed to the right: 1.1 kg with the pole's share, hand-computed from the equations of motion.
    after, reward, done = cart.step(torch.zeros(1, 4), torch.tensor([1]))
    spin = -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
    assert after[0].tolist() == pytest.approx([0, 0.02 * (10 / 1.1 - 0.05 * spin / 1.1), 0, 0.02 * spin])
    assert reward.tolist() == [1]
    assert not done.any()
    mirrored = cart.step(torch.zeros(1, 4), torch.tensor([0]))[0]
    assert torch.allclose(mirrored, -after)
    ends = torch.tensor([[2.41, 0, 0, 0], [0, 0, -math.radians(12.1), 0], [2.3, 0, 0.2, 0]])
    assert cart.step(ends, torch.tensor([0, 0, 0]))[2].tolist() == [True, True, False]


def test_a_policy_that_leans_into_the_fall_balances():
    cart = data.environment("cart")

    def length(policy):
        state, alive, steps = cart.reset(50, torch.Generator().manual_seed(0)), torch.ones(50, dtype=torch.bool), torch.zeros(50)
        for _ in range(200):
            state, reward, done = cart.step(state, policy(state))
            steps += reward * alive
            alive &= ~done
        return steps.mean().item()

    assert length(lambda s: (s[:, 2] + 0.3 * s[:, 3] > 0).long()) > 150
    assert length(lambda s: torch.ones(len(s), dtype=torch.int64)) < 15


def test_unknown_environment():
    with pytest.raises(DataError, match="expected one of grid5, lqr1, cart"):
        data.environment("chess")
