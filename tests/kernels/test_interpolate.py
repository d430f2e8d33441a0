"""interpolate beyond the contract: exact ends, shares of every shape, mixed types."""

import pytest
import torch

from gancore.kernels import interpolate
from tests.kernels.walk import place

IMPLS = ["triton", "native", "reference"]


@pytest.mark.parametrize("impl", IMPLS)
def test_the_ends_are_the_samples(impl: str) -> None:
    device = place(impl)
    real, fake = torch.randn(2, 3, 4, device=device) * 1e4, torch.randn(2, 3, 4, device=device)
    y = interpolate(real, fake, torch.tensor([1.0, 0.0], device=device), impl=impl)
    assert torch.equal(y[0], real[0])
    assert torch.equal(y[1], fake[1])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(4,), (), (4, 1, 1), (1, 3, 1), (4, 3, 5), (3, 1), (1, 1, 1)])
def test_shares_of_any_shape(impl: str, shape: tuple[int, ...]) -> None:
    device = place(impl)
    real, fake, eps = (torch.randn(s, device=device) for s in ((4, 3, 5), (4, 3, 5), shape))
    share = eps[:, None, None] if shape == (4,) else eps
    torch.testing.assert_close(interpolate(real, fake, eps, impl=impl), share * real + (1 - share) * fake)


@pytest.mark.parametrize("impl", IMPLS)
def test_narrow_fakes_and_wide_data(impl: str) -> None:
    device = place(impl)
    real, fake, eps = torch.randn(3, 4, device=device), torch.randn(3, 4, device=device).bfloat16(), torch.rand(3, device=device)
    for pair in ((real, fake), (fake, real)):
        y = interpolate(*pair, eps, impl=impl)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, torch.lerp(pair[1].float(), pair[0].float(), eps[:, None]))
