"""Inception score: the cases whose answer is known, and the parts."""

import pytest
import torch

from gancore.metrics import inception_score


@pytest.mark.parametrize("classes", [2, 10])
def test_perfect_and_balanced_is_the_number_of_classes(classes):
    rows = torch.eye(classes)[torch.arange(100 * classes) % classes]
    assert inception_score(rows) == pytest.approx((classes, 0.0))


def test_collapsed_is_one():
    assert inception_score(torch.eye(10)[torch.full((200,), 3)]) == pytest.approx((1.0, 0.0))


def test_uniform_is_one():
    assert inception_score(torch.full((200, 10), 0.1)) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_one_image_per_class_still_scores_high():
    one_image_each = torch.eye(10)[torch.arange(1000) % 10].double()
    assert inception_score(one_image_each).mean == pytest.approx(10.0)


def test_between_two_classes_by_hand():
    # p(y) = (1/2, 1/2); KL = 3/4 log(3/2) + 1/4 log(1/2)
    rows = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64).repeat(10, 1)
    assert inception_score(rows, splits=1).mean == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-12)


def test_mean_and_deviation_are_those_of_consecutive_parts():
    good, collapsed = torch.eye(4).repeat(5, 1), torch.eye(4)[torch.zeros(20, dtype=torch.long)]
    assert inception_score(torch.cat([good, collapsed]), splits=2) == pytest.approx((2.5, 1.5))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"x: wants rows of probabilities.*logits"):
        inception_score(torch.randn(50, 10))
    with pytest.raises(ValueError, match="x: wants at least 10 samples, got 9"):
        inception_score(torch.full((9, 2), 0.5))
    with pytest.raises(ValueError, match="splits: wants at least 1, got 0"):
        inception_score(torch.full((9, 2), 0.5), splits=0)
    with pytest.raises(ValueError, match=r"x: .*images need network="):
        inception_score(torch.rand(20, 1, 8, 8))
