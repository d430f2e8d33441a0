"""The comparisons of checks.py reject what they are there to reject."""

import pytest
import torch

from gancore.kernels import _check
from tests.kernels.checks import (
    assert_agrees,
    assert_close,
    assert_same_bits,
    assert_same_specials,
    derivatives,
    relative,
    weight_gradients,
)

TRUTH = torch.linspace(-1, 2, 50, dtype=torch.float64)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t * 1.02, "relative error"),
        (lambda t: t * 0, "relative error"),
        (lambda t: t[:-1], "shape"),
        (lambda t: torch.where(t == t.max(), torch.nan, t), "NaN"),
        (lambda t: torch.where(t == t.max(), torch.inf, t), "inf"),
        (lambda t: t + 1e-5, "relative error"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_close_rejects(spoil, words, dtype) -> None:
    assert_close(TRUTH.to(dtype), TRUTH, "same")
    with pytest.raises(AssertionError, match=words):
        assert_close(spoil(TRUTH.to(dtype)), TRUTH, "spoiled")


def test_close_finds_one_wrong_element_and_a_drift() -> None:
    truth = torch.ones(100_000, dtype=torch.float64)
    lone = truth.float()
    lone[7] += 4e-4  # 1.3e-6 of the norm
    with pytest.raises(AssertionError, match="worst element"):
        assert_close(lone, truth, "one element")
    plain = truth.float() + 1e-4 * torch.randn(100_000)
    assert_close(truth.float() + 1e-4 * torch.randn(100_000), truth, "noise as large as plain's", plain)


def test_low_precision_is_held_against_plain_pytorch() -> None:
    truth = torch.rand(1000, dtype=torch.float64) + 0.5
    assert_close(truth.bfloat16(), truth, "rounded", truth.bfloat16())
    with pytest.raises(AssertionError, match="relative error"):
        assert_close((truth * 1.02).bfloat16(), truth, "scaled", truth.bfloat16())
    with pytest.raises(AssertionError, match="nothing to hold"):
        assert_close(truth.bfloat16(), truth, "alone")
    with pytest.raises(AssertionError, match="instead of"):
        assert_close(truth.float(), truth, "wrong type", truth.bfloat16())


def test_bits_and_specials() -> None:
    a = torch.tensor([1.0, torch.nan, torch.inf])
    assert_same_bits(a, a.clone(), "same")
    assert_same_specials(a, a * 2, "same")
    with pytest.raises(AssertionError, match="bits"):
        assert_same_bits(a, torch.tensor([1.0 + 2e-7, torch.nan, torch.inf]), "one bit")
    with pytest.raises(AssertionError, match="inf"):
        assert_same_specials(a, torch.tensor([1.0, torch.nan, -torch.inf]), "sign")
    assert relative(a[:1] * 0, a[:1]) == 1
    assert relative(a[:1], a[:1] * 0) == 1


def test_agreement_sees_first_and_second_derivatives() -> None:
    """Functions with the right value and a wrong first or second derivative."""
    x = {"x": TRUTH[:20].clone()}

    def first(x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        return y + 0.02 * (y - y.detach())

    class Second(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, g):
            return g * (1 - torch.tanh(ctx.saved_tensors[0].detach()) ** 2)

    assert_agrees(torch.tanh, torch.tanh, {"input": x["x"]}, {}, 2, "tanh")
    with pytest.raises(AssertionError, match=r": d_x: relative"):
        assert_agrees(first, lambda x: torch.tanh(x), x, {}, 2, "first")
    with pytest.raises(AssertionError, match=r": dd_x: relative"):
        assert_agrees(lambda x: Second.apply(x), lambda x: torch.tanh(x), x, {}, 2, "second")
    assert set(derivatives(lambda x: torch.tanh(x), x, {})) == {"y0", "d_x", "dd_x", "dd_seed0"}


def test_fresh_memory_is_poisoned(poisoned: None) -> None:
    assert torch.empty(3).isnan().all()
    assert torch.empty_like(TRUTH).isnan().all()
    assert TRUTH.new_empty(2, 3, dtype=torch.bfloat16).isnan().all()


def test_argument_checks_refuse() -> None:
    assert _check.number("op", "n", 3, 0) == 3.0
    for value, error in ((True, TypeError), (None, TypeError), (float("nan"), ValueError), (-1, ValueError)):
        with pytest.raises(error, match="op: n got"):
            _check.number("op", "n", value, 0)


def test_weight_gradients_are_counted() -> None:
    """A joint backward forms a weight gradient that nobody asked for; built-in multiplication does not."""
    with torch.library._scoped_library("gancore", "FRAGMENT") as library:
        library.define("probe_weight_grad(Tensor g, Tensor x) -> Tensor")
        library.impl("probe_weight_grad", lambda g, x: g * x, "CompositeExplicitAutograd")

        class Joint(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                ctx.save_for_backward(x, w)
                return x * w

            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                torch.ops.gancore.probe_weight_grad(g.detach(), x.detach())
                return g * w, g * x

        tensors = {"x": torch.randn(3), "w": torch.randn(3)}
        op = "gancore::probe_weight_grad"
        assert weight_gradients(lambda x, w: Joint.apply(x, w), tensors, {}, ["x"], op)[0] == 1
        assert weight_gradients(lambda x, w: x * w, tensors, {}, ["x"], op) == (0, 0)
