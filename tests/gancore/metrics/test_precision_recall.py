"""Precision and recall: the balls by hand, and the ways in which samples can miss the data."""

import pytest
import torch

from gancore.metrics import precision_recall


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(x, y, k):
    def share(points, centres):
        radii = [sorted(float((c - d).norm()) for d in centres)[k] for c in centres]
        return sum(any(float((p - c).norm()) <= r for c, r in zip(centres, radii, strict=True)) for p in points) / len(points)

    return share(x, y), share(y, x)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_is_the_definition(k):
    x, y = normal(40, 3), 0.5 * normal(30, 3, seed=1) + 0.7
    assert precision_recall(x, y, neighbours=k) == pytest.approx(by_hand(x, y, k))


def test_radius_reaches_the_neighbour_and_no_further():
    y = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    x = torch.tensor([[2.0], [2.1], [7.9], [8.0], [14.0], [-1.1]])
    assert precision_recall(x, y, neighbours=1).precision == pytest.approx(3 / 6)


def test_identical_sets_are_perfect():
    x = normal(100, 8)
    assert precision_recall(x, x.flip(0)) == (1.0, 1.0)


def test_a_collapsed_generator_is_precise_and_recalls_little():
    y = normal(300, 2)
    collapsed = 0.01 * normal(300, 2, seed=1)
    found = precision_recall(collapsed, y)
    assert found.precision > 0.95
    assert found.recall < 0.05


def test_a_scattered_generator_recalls_and_is_not_precise():
    y = 0.3 * normal(300, 2)
    found = precision_recall(3 * normal(300, 2, seed=1), y)
    assert found.precision < 0.1
    assert found.recall > 0.7


def test_far_from_the_origin_nothing_changes():
    x, y = normal(60, 4), normal(60, 4, seed=1)
    assert precision_recall(x + 1e7, y + 1e7) == precision_recall(x, y)


def test_bad_input_is_named():
    x = normal(9, 4)
    with pytest.raises(ValueError, match="y: wants at least 4 samples, got 3"):
        precision_recall(x, x[:3])
    with pytest.raises(ValueError, match="neighbours: wants at least 1, got 0"):
        precision_recall(x, x, neighbours=0)
    with pytest.raises(ValueError, match="y: wants 4 features"):
        precision_recall(x, normal(9, 5))
