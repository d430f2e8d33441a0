"""rwgan: RING(0.40); Bregman costs: sorted coupling is the best, the square is W_2^2 / 2, the entropy's is not symmetric."""

import pytest
import torch

import gancore
from gancore.transport import ENTROPY, SQUARE, sorted_cost
from tests.accept import Clause, at_least, at_most, ring


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("rwgan", 0.40, seed, low=0.05, high=0.1)
    weights = torch.cat([p.detach().flatten() for p in run.trainer.nets["D"].parameters()])
    return [
        *clauses,
        at_most("largest weight of the critic", weights.max().item(), 0.1 + 1e-6),
        at_least("least weight of the critic", weights.min().item(), -0.05 - 1e-6),
    ]


def gamma(n: int, shape: float, seed: int) -> torch.Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return torch.distributions.Gamma(torch.tensor(shape, dtype=torch.float64), 1.0).sample((n,))


@pytest.mark.parametrize("cost", [SQUARE, ENTROPY])
def test_sorted_order_is_the_best_assignment(cost):
    scipy = pytest.importorskip("scipy.optimize")
    x, y = gamma(120, 2.0, 0), gamma(120, 3.0, 1)
    table = cost(x[:, None, None], y[None, :, None])
    rows, columns = scipy.linear_sum_assignment(table.numpy())
    best = table[rows, columns].mean()
    torch.testing.assert_close(sorted_cost(x, y, cost), best, rtol=0, atol=1e-9)
    assert cost(x.unsqueeze(1), y.unsqueeze(1)).mean() > 5 * best  # in the order drawn


def test_the_square_is_half_of_the_squared_distance():
    x, y = gamma(400, 2.0, 0), gamma(400, 2.5, 1)
    w2 = (x.sort().values - y.sort().values).square().mean()
    torch.testing.assert_close(sorted_cost(x, y, SQUARE), w2 / 2, rtol=0, atol=1e-9)


def test_the_entropy_is_not_symmetric_and_no_cost_is_negative():
    x, y = gamma(400, 2.0, 0), gamma(400, 4.0, 1)
    there, back = sorted_cost(x, y, ENTROPY), sorted_cost(y, x, ENTROPY)
    assert abs(there - back) > 0.05 * there
    for cost in (SQUARE, ENTROPY):
        assert (cost(x.unsqueeze(1), y.unsqueeze(1)) >= 0).all()
        assert cost(x.unsqueeze(1), x.unsqueeze(1)).abs().max() < 1e-12


def test_unequal_samples_are_refused():
    with pytest.raises(ValueError, match="as many"):
        sorted_cost(torch.ones(3), torch.ones(4), SQUARE)


def test_the_box_is_not_symmetric():
    run = gancore.train("rwgan", data="ring8", steps=3, batch_size=16, lr=1e-1, low=0.01, high=0.03)
    weights = torch.cat([p.detach().flatten() for p in run.trainer.nets["D"].parameters()])
    assert weights.min().item() == pytest.approx(-0.01)
    assert weights.max().item() == pytest.approx(0.03)
