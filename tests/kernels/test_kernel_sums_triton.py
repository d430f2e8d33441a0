"""Kernel sums on a GPU beyond the contract's small samples: several tiles, panels, chunks and parts in every direction."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gancore.kernels import energy, gaussian, kernel_dot, laplacian, linear, mmd2, polynomial, rational_quadratic
from gancore.kernels.kernel_sums import device_sizes as sizes
from gancore.kernels.kernel_sums.kernel import Kernel
from tests.kernels.checks import assert_close, derivatives
from tests.kernels.walk import place

SHARED = gaussian([1.0, 2.0, 4.0])
KERNELS = {
    "gaussian": SHARED,
    "rational quadratic": rational_quadratic(1.0),
    "energy": energy(),
    "laplacian": laplacian(3.0),
    "polynomial": polynomial(2),
}


@pytest.fixture(params=[1, 64], ids=["whole", "parts"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Tiles of 16 and panels of 32, chunks of 16 features; rows whole, or in as many parts as there are tiles."""
    device = place("triton")
    monkeypatch.setattr(sizes, "SMALL", sizes.SMALL._replace(rows=16, cols=16, chunk=16, columns=16))
    monkeypatch.setattr(sizes, "programs", lambda like: request.param)
    return device


def agrees(fn: Any, tensors: dict[str, Tensor], options: dict[str, Any], order: int) -> None:
    """Against the reference in float64, and the error of the one in float32."""
    found = derivatives(lambda **kw: fn(**kw, impl="triton"), tensors, options, order)
    double = {n: t.double() for n, t in tensors.items()}
    truth, plain = (derivatives(lambda **kw: fn(**kw, impl="reference"), t, options, order) for t in (double, tensors))
    for name, expected in truth.items():
        assert_close(found[name], expected, name, plain[name])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dims", [3, 35])
def test_many_tiles(parts: torch.device, name: str, dims: int) -> None:
    if name == "laplacian" and dims > 3:
        pytest.skip("it takes the same way for any number of features")
    x, y, v = torch.randn(37, dims), torch.randn(50, dims), torch.randn(50, 1)
    agrees(kernel_dot, {"x": x.to(parts), "y": y.to(parts), "v": v.to(parts)}, {"kernel": KERNELS[name]}, 2)


@pytest.mark.parametrize("columns", [3, 20])
def test_many_columns_of_weights(parts: torch.device, columns: int) -> None:
    x, y, v = torch.randn(20, 3), torch.randn(35, 3), torch.randn(35, columns)
    agrees(kernel_dot, {"x": x.to(parts), "y": y.to(parts), "v": v.to(parts)}, {"kernel": SHARED}, 2)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("name", ["gaussian", "laplacian", "polynomial"])
def test_symmetric_sums_of_many_panels(parts: torch.device, name: str, estimator: str) -> None:
    dims = 35 if name == "polynomial" else 3
    x, y = torch.randn(53, dims) + 0.5, torch.randn(36, dims)
    weights = {"x_weights": torch.rand(53) + 0.5, "y_weights": torch.rand(36) + 0.5}
    tensors = {n: t.to(parts) for n, t in {"x": x, "y": y, **weights}.items()}
    agrees(mmd2, tensors, {"kernel": KERNELS[name], "estimator": estimator}, 2)


@pytest.mark.parametrize("block", [5, 16, 20])
def test_blocks_are_apart(parts: torch.device, block: int) -> None:
    x, y = (torch.randn(41, 3).to(parts) for _ in range(2))
    agrees(mmd2, {"x": x, "y": y}, {"kernel": SHARED, "estimator": "block", "block": block}, 2)


@pytest.mark.parametrize("rows", [16, 17, 33, 50, 65])
def test_each_pair_of_tiles_counts_once(parts: torch.device, rows: int) -> None:
    """Without derivatives a symmetric sum visits half its tiles, for even and odd numbers of them."""
    x = torch.randn(rows, 3, device=parts)
    for options in ({"estimator": "biased"}, {"estimator": "unbiased"}):
        ours, theirs = (
            mmd2(t, t * 0.5, SHARED, impl=impl, **options)
            for t, impl in ((x, "triton"), (x.double(), "reference"))
        )  # fmt: skip
        assert_close(ours, theirs, str(options), mmd2(x, x * 0.5, SHARED, impl="reference", **options))


def numbers(kind: str) -> tuple[Tensor, Any]:
    makers = {
        "gaussian": lambda t: gaussian(t[:2], t[2:]),
        "rational quadratic": lambda t: rational_quadratic(t[:2], t[2:]),
        "laplacian": lambda t: t[2] * laplacian(t[:2]),
        "polynomial": lambda t: polynomial(3, t[0], t[1]) + t[2] * linear(),
    }
    return torch.tensor([1.5, 0.7, 0.4, 1.2]), makers[kind]


@pytest.mark.parametrize("kind", ["gaussian", "rational quadratic", "laplacian", "polynomial"])
def test_derivatives_by_parameters(parts: torch.device, kind: str) -> None:
    start, make = numbers(kind)
    x, y = torch.randn(21, 3, device=parts) / 2, torch.randn(35, 3, device=parts) / 2

    def gradient(impl: str, dtype: torch.dtype) -> Tensor:
        values = start.to(parts, dtype).requires_grad_()
        kernel: Kernel = make(values)
        loss = mmd2(x.to(dtype), y.to(dtype), kernel, impl=impl)
        loss = loss + kernel_dot(x.to(dtype), y.to(dtype), x.new_ones(35, 2, dtype=dtype), kernel, impl=impl).sum()
        (found,) = torch.autograd.grad(loss, [values])
        return found

    truth, plain = gradient("reference", torch.float64), gradient("reference", torch.float32)
    assert_close(gradient("triton", torch.float32), truth, kind, plain)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precisions(parts: torch.device, precision: str, dtype: torch.dtype) -> None:
    """The interpreter multiplies exactly, and shows what rounding the operands to bfloat16 costs, in `medium` alone."""
    x, y, v = (torch.randn(s, device=parts).to(dtype) for s in ((20, 20), (35, 20), (35, 1)))
    wide = [t.float().requires_grad_() for t in (x, y, v)]
    kernel = gaussian([4.0, 8.0])
    leaves = [t.clone().requires_grad_() for t in (x, y, v)]
    ours = kernel_dot(*leaves, kernel, precision=precision, impl="triton")
    theirs = kernel_dot(*wide, kernel, impl="reference")
    bound = 2e-2 if dtype == torch.bfloat16 else 1e-5 if parts.type == "cpu" or precision != "medium" else 1e-2
    pairs = zip((ours, *torch.autograd.grad(ours.sum(), leaves)), (theirs, *torch.autograd.grad(theirs.sum(), wide)), strict=True)
    for a, b in pairs:
        assert a.dtype == dtype
        assert float((a.float() - b).detach().norm() / b.detach().norm()) < bound


def test_points_far_from_the_origin(parts: torch.device) -> None:
    x, y = torch.randn(20, 3, device=parts) + 1e3, torch.randn(35, 3, device=parts) + 1e3
    ours, theirs = mmd2(x, y, SHARED, impl="triton"), mmd2(x.double(), y.double(), SHARED, impl="reference")
    assert abs(float(ours) / float(theirs) - 1) < 1e-4
