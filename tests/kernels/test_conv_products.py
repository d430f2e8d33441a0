"""Convolutions on CPUs as matrix products, against the library's: values, derivatives up to the second, registration, and where
they serve."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gancore.kernels import _conv, _native, conv2d_bias_act, conv_transpose2d_bn_act
from gancore.kernels._conv import Geometry, library, operators, products

pytestmark = pytest.mark.skipif(_native.missing(torch.device("cpu")) is not None, reason="no native extension")

# Sizes of the small side, of the kernel, strides, paddings, output paddings.
SHAPES = {
    "dcgan": ((4, 4), (4, 4), (2, 2), (1, 1), (0, 0)),
    "one pixel": ((1, 1), (4, 3), (1, 1), (0, 0), (0, 0)),
    "rows": ((2, 5), (1, 3), (3, 1), (0, 1), (2, 0)),
    "padding beyond the kernel": ((3, 6), (2, 3), (2, 1), (2, 3), (1, 0)),
    "signals": ((7,), (5,), (3,), (2,), (1,)),
    "volumes": ((2, 3, 2), (3, 2, 4), (2, 1, 2), (1, 0, 1), (0, 0, 1)),
}
LAYOUTS = ["planes", "last"]


def laid(t: Tensor, layout: str) -> Tensor:
    return t if layout == "planes" or t.ndim == 3 else t.to(memory_format=(torch.channels_last, torch.channels_last_3d)[t.ndim - 4])


def draw(shape, layout="last", columns=3, dtype=torch.float64):
    small, kernel, stride, padding, more = shape
    geometry = Geometry(stride, padding, more, (1,) * len(stride))
    generator = torch.Generator().manual_seed(0)
    random = lambda *size: laid(torch.randn(size, generator=generator, dtype=torch.float64).to(dtype), layout)
    return random(3, 5, *small), random(5, columns, *kernel), random(3, columns, *geometry.large(small, kernel)), geometry


@pytest.fixture
def heavy(monkeypatch):
    """Every weight gradient is a product."""
    monkeypatch.setattr(products, "heavy", lambda *args: True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_products_are_the_library_s(name, dtype, layout, heavy):
    x, w, g, geometry = draw(SHAPES[name], layout)
    found = products.transposed(x.to(dtype), w.to(dtype), geometry, False)[0]
    gradient = products.weight_gradient(x.to(dtype), g.to(dtype), geometry, w.shape[2:])
    for own, exact in (
        (found, library.transposed(x, w, geometry, False)[0]),
        (gradient, library.weight_gradient(x, g, geometry, w.shape[2:])),
    ):
        assert own.dtype == dtype
        assert own.stride() == exact.stride()
        assert float((own.double() - exact).norm() / exact.norm()) < 4 * torch.finfo(dtype).eps


def test_blocks_of_images(monkeypatch):
    x, w, _, geometry = draw(SHAPES["dcgan"])
    whole = products.transposed(x, w, geometry, False)[0]
    monkeypatch.setattr(products, "_BLOCK", 1)
    torch.testing.assert_close(products.transposed(x, w, geometry, False)[0], whole)


@pytest.mark.parametrize("name", ["dcgan", "padding beyond the kernel", "signals"])
def test_derivatives(name, heavy):
    x, w, g, geometry = draw(SHAPES[name])
    x, w, g = (t[:1].clone().requires_grad_() if t is not w else t.clone().requires_grad_() for t in (x, w, g))
    small, kernel = x.shape[2:], w.shape[2:]
    maps = (
        (lambda x, w: _conv.transposed(x, w, geometry, False, "native")[0], (x, w)),
        (lambda g, w: _conv.correlate(g, w, geometry, small, "native"), (g, w)),
        (lambda x, g: _conv.weight_gradient(x, g, geometry, kernel, "native"), (x, g)),
    )
    for run, inputs in maps:
        assert torch.autograd.gradcheck(run, inputs)
        assert torch.autograd.gradgradcheck(run, inputs)


def test_registration(heavy):
    x, w, g, geometry = draw(SHAPES["dcgan"])
    x, w, g = (t.requires_grad_() for t in (x, w, g))
    torch.library.opcheck(operators._transposed, (x, w, False, *geometry, "native"))
    torch.library.opcheck(operators._correlate, (g, w, (4, 4), *geometry, "native"))
    torch.library.opcheck(operators._weight_gradient, (x, g, (4, 4), *geometry, "native"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers_take_them(layout, monkeypatch):
    """First, heavy and last layers of a generator and heavy ones of a critic, in the caller's layout, and no other."""
    seen = []
    for name in ("of_one_pixel", "transposed", "weight_gradient"):
        body = getattr(products, name)
        monkeypatch.setattr(products, name, lambda *args, body=body, name=name: (seen.append(name), body(*args))[1])
    monkeypatch.setattr(products, "_HEAVY", 1)

    def check(operator, plain, sizes, weight, **options):
        x, w = (laid(torch.randn(n), layout).requires_grad_() for n in (sizes, weight))
        y, wanted = operator(x, w, act=None, impl="native", **options), plain(x, w, **options)
        assert y.stride() == wanted.stride()
        g = torch.randn_like(wanted)
        of = [(out, *torch.autograd.grad(out, (x, w), g)) for out in (y, wanted)]
        for own, other in zip(*of, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)
        taken = list(seen)
        seen.clear()
        return taken

    large = (1024, 8, 4, 4)
    assert check(conv_transpose2d_bn_act, F.conv_transpose2d, (4, 6, 1, 1), (6, 8, 4, 4)) == ["of_one_pixel"]
    assert "weight_gradient" in check(conv_transpose2d_bn_act, F.conv_transpose2d, (2, 1024, 4, 4), large, stride=2, padding=1)
    assert "transposed" in check(conv_transpose2d_bn_act, F.conv_transpose2d, (2, 4, 5, 5), (4, 3, 4, 4), stride=2, padding=1)
    assert "weight_gradient" in check(conv2d_bias_act, F.conv2d, (2, 8, 8, 8), large, stride=2, padding=1)
    assert check(conv_transpose2d_bn_act, F.conv_transpose2d, (4, 4, 9, 9), (4, 8, 3, 3)) == []
    assert "transposed" in check(conv2d_bias_act, F.conv2d, (2, 3, 9, 9), (8, 3, 3, 3))
    assert check(conv2d_bias_act, F.conv2d, (4, 6, 9, 9), (8, 6, 3, 3)) == []
