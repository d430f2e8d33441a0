"""gradient_norm_penalty beyond the contract: gradients of zero, of any size in low precision, ties, samples by themselves."""

import math

import pytest
import torch

from gancore.kernels import gradient_norm_penalty
from tests.kernels.walk import place

IMPLS = ["triton", "native", "reference"]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize(("center", "one_sided"), [(1.0, False), (0.0, False), (0.5, True)])
def test_derivatives_at_zero_are_zero(impl: str, norm: float, center: float, one_sided: bool) -> None:
    g = torch.zeros(2, 3, device=place(impl), requires_grad=True)
    penalty = gradient_norm_penalty(g, center, one_sided, norm, impl=impl)
    assert penalty.tolist() == [0.0 if one_sided else center**2] * 2
    (first,) = torch.autograd.grad(penalty.sum(), g, create_graph=True)
    assert first.count_nonzero() == 0
    (second,) = torch.autograd.grad(first.sum(), g, allow_unused=True, materialize_grads=True)
    assert second.unique().tolist() == [2.0 if norm == 2 and center == 0 else 0.0]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("center", [0.0, 0.5])
def test_no_size_of_gradient_overflows_or_vanishes(impl: str, dtype: torch.dtype, size: float, center: float) -> None:
    """1e4 squared is beyond float16, 1e-4 squared below it."""
    g = (size * torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])).to(place(impl), dtype)
    penalty = gradient_norm_penalty(g, center, impl=impl)
    assert penalty.dtype == torch.float32
    expected = (g.double().norm(dim=1) - center) ** 2
    torch.testing.assert_close(penalty.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
def test_the_largest_share_the_derivative(impl: str) -> None:
    g = torch.tensor([[3.0, -3.0, 1.0], [0.0, 2.0, 1.0]], device=place(impl), requires_grad=True)
    (slope,) = torch.autograd.grad(gradient_norm_penalty(g, norm=math.inf, impl=impl).sum(), g)
    torch.testing.assert_close(slope.cpu(), torch.tensor([[2.0, -2.0, 0.0], [0.0, 2.0, 0.0]]))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_sample_does_not_see_the_others(impl: str) -> None:
    g = torch.randn(5, 2, 3, 4, device=place(impl))
    together = gradient_norm_penalty(g, impl=impl)
    for n in range(5):
        assert torch.equal(gradient_norm_penalty(g[n : n + 1], impl=impl)[0], together[n])
