"""What is special to minibatch_stddev; the contract test has the rest."""

import pytest
import torch
from torch import Tensor

from gancore.kernels import minibatch_stddev
from gancore.layers import MinibatchStddev
from tests.kernels.checks import assert_close, assert_same_bits


def by_group_size(x: Tensor, size: int, channels: int) -> Tensor:
    """The layer as papers state it: N / size groups of `size` samples, a group's samples N / size apart."""
    groups, part = len(x) // size, x.shape[1] // channels
    out = torch.empty(len(x), channels, *x.shape[2:], dtype=x.dtype)
    for n in range(len(x)):
        members = [m for m in range(len(x)) if m % groups == n % groups]
        for p in range(channels):
            features = x[members, p * part : (p + 1) * part].reshape(len(members), -1)
            deviation = (features - features.mean(0)).square().mean(0).add(1e-8).sqrt()
            out[n, p] = deviation.mean()
    return out


@pytest.mark.parametrize("shape", [(8, 6, 4, 4), (12, 6), (4, 6, 5), (6, 6, 2, 3, 2)])
@pytest.mark.parametrize("channels", [1, 2])
def test_is_the_papers_layer_where_groups_are_even(shape: tuple[int, ...], channels: int) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    for groups in (1, 2, shape[0] // 2, shape[0]):
        ours = minibatch_stddev(x, groups, channels)
        assert ours.shape == (shape[0], channels, *shape[2:])
        torch.testing.assert_close(ours, by_group_size(x, shape[0] // groups, channels))


def test_samples_are_told_apart_from_groups() -> None:
    """Groups by n mod groups: samples 0, 2 and 4 are equal, 1, 3 and 5 are 1, 3 and 5."""
    x = torch.tensor([7.0, 1.0, 7.0, 3.0, 7.0, 5.0]).view(6, 1)
    y = minibatch_stddev(x, groups=2)
    torch.testing.assert_close(y.flatten(), torch.tensor([1e-4, (8 / 3) ** 0.5] * 3))


def test_uneven_groups_differ_by_one_sample() -> None:
    """Ten samples in four groups: 0 4 8, 1 5 9, 2 6, 3 7; each is the statistic of those samples alone."""
    x = torch.randn(10, 4, 3, dtype=torch.float64)
    y = minibatch_stddev(x, groups=4, channels=2)
    for members in ([0, 4, 8], [1, 5, 9], [2, 6], [3, 7]):
        torch.testing.assert_close(y[members], minibatch_stddev(x[members], groups=1, channels=2))


def test_fewer_samples_than_groups_and_none() -> None:
    x = torch.randn(3, 4, 2)
    assert_same_bits(minibatch_stddev(x, groups=8), minibatch_stddev(x, groups=3), "clipped")
    torch.testing.assert_close(minibatch_stddev(x, groups=8), torch.full((3, 1, 2), 1e-4))
    assert minibatch_stddev(x[:0]).shape == (0, 1, 2)


def test_a_large_mean_costs_no_digits() -> None:
    """Deviations are taken before they are squared."""
    x = torch.randn(16, 8, dtype=torch.float64) + 1e3
    assert_close(minibatch_stddev(x.float()), minibatch_stddev(x.float().double()), "s", minibatch_stddev(x.float()))
    torch.testing.assert_close(minibatch_stddev(x.float()).double(), minibatch_stddev(x), rtol=1e-4, atol=0)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_low_types_are_computed_in_float32(low: torch.dtype) -> None:
    x = (torch.randn(8, 4, 3) * 1e-3).to(low)
    assert_same_bits(minibatch_stddev(x), minibatch_stddev(x.float()).to(low), "rounded once")


def test_filled_up_samples_get_and_give_no_gradient() -> None:
    """NaN-free where a group is filled up, and the gradient is that of the groups taken alone."""
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(minibatch_stddev(x, groups=2).square().sum(), x)
    alone = sum(minibatch_stddev(x[g::2], groups=1).square().sum() for g in (0, 1))
    torch.testing.assert_close(whole, torch.autograd.grad(alone, x)[0])


def test_kernels_are_refused_and_the_result_is_the_callers_own() -> None:
    x = torch.randn(4, 2, 2, 2)
    for impl in ("native", "triton"):
        with pytest.raises(RuntimeError, match=f"minibatch_stddev: impl='{impl}' cannot run here: there is no {impl} kernel"):
            minibatch_stddev(x, impl=impl)
    y = minibatch_stddev(x)
    y[0, 0, 0, 0] = 9.0  # an expanded tensor would take it everywhere
    assert (y == 9.0).sum() == 1


def test_layer_appends_the_statistic() -> None:
    x = torch.randn(6, 4, 3, 3)
    y = MinibatchStddev(groups=2, channels=2)(x)
    assert_same_bits(y[:, :4], x, "features")
    assert_same_bits(y[:, 4:], minibatch_stddev(x, 2, 2), "statistic")
    assert MinibatchStddev()(x.to(torch.bfloat16)).dtype == torch.bfloat16
