"""Control tasks, their dynamics against hand computations."""

import math

import pytest
import torch

from gancore import data
from gancore.data import DataError
from gancore.data.toy.environments import Grid5, Lqr1


def test_names():
    with pytest.raises(DataError, match="expected one of grid5, lqr1, cart"):
        data.environment("gird5")
    with pytest.raises(DataError, match="control task"):
        data.load("grid5")


@pytest.mark.parametrize("name", ["grid5", "lqr1", "cart"])
def test_resets_repeat_and_leave_the_global_state(name):
    task, before = data.environment(name), torch.get_rng_state()
    one, two = (task.reset(100, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert len(one) == 100
    action = -one if name == "lqr1" else torch.ones(100, dtype=torch.int64)
    steps = [task.step(one, action, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*steps, strict=True))
    after, reward, done = steps[0]
    assert after.shape == one.shape
    assert (reward.shape, done.shape) == ((100,), (100,))
    assert (reward.dtype, done.dtype) == (torch.float32, torch.bool)
    assert torch.equal(before, torch.get_rng_state())


def test_grid_moves():
    task = data.environment("grid5")
    state = torch.tensor([12, 12, 12, 12, 0, 0, 4, 23, 19, 24])
    action = torch.tensor([0, 1, 2, 3, 2, 3, 0, 0, 1, 2])
    after, reward, done = task.step(state, action)
    assert after.tolist() == [13, 17, 11, 7, 0, 0, 4, 24, 24, 24]
    assert reward.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]
    assert done.tolist() == [False] * 7 + [True] * 3
    assert task.reset(2_000, torch.Generator().manual_seed(0)).unique().tolist() == list(range(24))


def test_grid_values_and_best_actions():
    task = data.environment("grid5")
    distance = torch.tensor([(4 - s // 5) + (4 - s % 5) for s in range(25)])
    expected = torch.where(distance > 0, 0.9 ** (distance - 1.0), 0.0)
    assert torch.allclose(task.values(), expected)
    best = task.best_actions()
    assert best[0].tolist() == [True, True, False, False]
    assert best[4].tolist() == [False, True, False, False]
    assert best[20].tolist() == [True, False, False, False]
    state, steps = torch.zeros(1, dtype=torch.int64), 0
    while state.item() != 24:
        state, _, _ = task.step(state, best[state].float().argmax(1))
        steps += 1
    assert steps == 8


def test_grid_slips_as_its_transition_says():
    task = Grid5(slip=0.4)
    assert torch.allclose(task.transition.sum(2), torch.ones(4, 25))
    assert task.transition[0, 12, 13].item() == pytest.approx(0.6 + 0.1)
    state = torch.full((20_000,), 12)
    after, _, _ = task.step(state, torch.zeros_like(state), torch.Generator().manual_seed(0))
    share = torch.bincount(after, minlength=25) / len(after)
    assert torch.allclose(share, task.transition[0, 12], atol=0.012)
    assert (task.values()[:24] < Grid5().values()[:24]).all()


def test_plant():
    task = Lqr1(a=0.9, b=0.5, q=2.0, r=0.5, noise=0.0)
    after, reward, done = task.step(torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [3.0]]))
    assert after.flatten().tolist() == pytest.approx([2.3, 0.6])
    assert reward.tolist() == pytest.approx([-8.5, -6.5])
    assert not done.any()
    noisy = Lqr1(noise=0.3).step(torch.zeros(20_000, 1), torch.zeros(20_000, 1), torch.Generator().manual_seed(0))[0]
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    control = torch.zeros(3, 1, requires_grad=True)
    data.environment("lqr1").step(torch.ones(3, 1), control)[0].sum().backward()
    assert control.grad.flatten().tolist() == [0.5] * 3


def test_riccati_gain_is_the_cheapest():
    """Against the cost p = (q + r k²) / (1 - discount (a - b k)²) of each gain k, found by hand from p's own equation."""
    task = Lqr1()
    cost = lambda k: (task.q + task.r * k**2) / (1 - task.discount * (task.a - task.b * k) ** 2)
    grid = torch.linspace(0.5, 3, 25_001, dtype=torch.float64)
    assert task.gain() == pytest.approx(grid[cost(grid).argmin()].item(), abs=2e-4)
    # And by rolling the plant out.
    start, returns = torch.randn(4_000, 1, generator=torch.Generator().manual_seed(1)), []
    for k in (0.8 * task.gain(), task.gain(), 1.2 * task.gain()):
        state, total, generator = start, torch.zeros(4_000), torch.Generator().manual_seed(2)
        for t in range(60):
            state, reward, _ = task.step(state, -k * state, generator)
            total += task.discount**t * reward
        returns.append(total.mean().item())
    assert returns[1] > max(returns[0], returns[2])


def test_cart_by_hand():
    """The accelerations solve Newton's equations of cart (1 kg) and pole (0.1 kg, 1 m), two linear equations in two unknowns."""
    speed, angle, spin, mass, length = 0.3, 0.1, -0.7, 0.1, 0.5
    state = torch.tensor([[0.2, speed, angle, spin]])
    after, reward, done = data.environment("cart").step(state, torch.tensor([1]))
    coupling = mass * length * math.cos(angle)
    inertia = torch.tensor([[1 + mass, coupling], [coupling, 4 / 3 * mass * length**2]])
    torque = torch.tensor([10 + mass * length * spin**2 * math.sin(angle), mass * 9.8 * length * math.sin(angle)])
    cart, pole = torch.linalg.solve(inertia, torque).tolist()
    expected = [0.2 + 0.02 * speed, speed + 0.02 * cart, angle + 0.02 * spin, spin + 0.02 * pole]
    assert after[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert reward.item() == 1
    assert not done.item()


def test_cart_is_symmetric_and_ends():
    task = data.environment("cart")
    state = task.reset(500, torch.Generator().manual_seed(0))
    assert state.abs().max() <= 0.05
    right, left = task.step(state, torch.ones(500, dtype=torch.int64))[0], task.step(-state, torch.zeros(500, dtype=torch.int64))[0]
    assert torch.allclose(right, -left, atol=1e-6)
    edges = torch.tensor([[2.39, 5.0, 0.0, 0.0], [0.0, 0.0, 0.2, 2.0], [2.3, 0.0, 0.2, 0.0], [-2.41, 0.0, 0.0, 0.0]])
    assert task.step(edges, torch.tensor([1, 1, 1, 0]))[2].tolist() == [True, True, False, True]
    assert task.step(torch.tensor([[0.0, 0.0, -math.radians(12.1), 0.0]]), torch.tensor([0]))[2].item()


def test_cart_expert_balances_and_chance_does_not():
    task, generator = data.environment("cart"), torch.Generator().manual_seed(3)
    lengths = {}
    for name in ("expert", "chance"):
        state, alive, total = task.reset(200, generator), torch.ones(200), torch.zeros(200)
        for _ in range(300):
            action = task.balance(state) if name == "expert" else torch.randint(2, (200,), generator=generator)
            state, reward, done = task.step(state, action)
            total += reward * alive
            alive *= (~done).float()
        lengths[name] = total.mean().item()
    assert lengths["expert"] == 300
    assert 10 < lengths["chance"] < 50
