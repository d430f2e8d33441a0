"""em-duality: primal and dual agree to 1e-8; on the line sorting gives 1.0 and the critic is within 15 % of it."""

import pytest

from gancore.recipes import get
from tests.accept import Clause, at_most, between

pytest.importorskip("scipy")
demo = get("em-duality", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        at_most("difference of primal and dual, 10 x 10", figures["difference"], 1e-8),
        between("W1 of N(0, 1) and N(1, 1), sorted, n = 2000", figures["W1 on the line, sorted"], 0.9, 1.1),
        between("critic's estimate over it", figures["critic over sorted"], 0.85, 1.15),
    ]


@pytest.mark.parametrize("stream", range(4))
def test_plan_and_critic_agree(stream):
    figures, _ = demo(updates=1, samples=8, stream=stream)
    assert figures["difference"] < 1e-8
    assert figures["primal"] > 0.01


def test_primal_is_the_best_assignment_of_equal_weights():
    import torch
    from scipy.optimize import linear_sum_assignment

    from gancore.recipes.theory.em_duality import _dual, _primal

    x, y = torch.rand(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distance, share = torch.cdist(x, y), torch.full((6,), 1 / 6, dtype=torch.float64)
    best = distance[linear_sum_assignment(distance)].sum() / 6
    assert _primal(share, share, distance) == pytest.approx(float(best), abs=1e-9)
    assert _dual(torch.cat([share, -share]), torch.cat([x, y])) == pytest.approx(float(best), abs=1e-9)


@pytest.mark.parametrize("mean", [1.0, -1.0])
def test_the_critic_finds_the_distance_of_sorted_samples(mean):
    figures, _ = demo(mean=mean, samples=500, updates=120, lr=1e-2)
    assert figures["W1 on the line, sorted"] == pytest.approx(1, abs=0.15)
    assert 0.85 < figures["critic over sorted"] < 1.15
