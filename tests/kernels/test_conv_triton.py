"""Convolutions on a GPU: the transposed one, its adjoint and its weight gradient, over geometries, routes and sizes of tiles."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gancore.kernels import _triton
from gancore.kernels._conv import Geometry, correlate, device, kernels, operators, sizes, transposed, weight_gradient
from gancore.kernels._conv.ahead import ahead
from tests.kernels.checks import assert_agrees, assert_close, assert_same_bits, relative, weight_gradients
from tests.kernels.walk import place

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
ORDINARY = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Case(NamedTuple):
    """A layer: batch, channels of the small and of the large side, the small side's size, and the geometry."""

    batch: int
    small: tuple[int, ...]
    channels: tuple[int, int]
    kernel: tuple[int, ...]
    stride: int = 2
    padding: int = 1
    more: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def geometry(self) -> Geometry:
        n = len(self.small)
        return Geometry((self.stride,) * n, (self.padding,) * n, (self.more,) * n, (self.dilation,) * n, self.groups)

    def draw(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """x, w and g, of the large side's shape."""
        given, made = self.channels
        x = torch.randn(self.batch, given, *self.small)
        w = torch.randn(given, made // self.groups, *self.kernel)
        g = torch.randn(self.batch, made, *self.geometry.large(self.small, self.kernel))
        device = place("triton")
        return x.to(device, dtype), w.to(device, dtype), g.to(device, dtype)

    def up(self, x: Tensor, w: Tensor) -> Tensor:
        form = (self.stride, self.padding, self.more, self.groups, self.dilation)
        y: Tensor = TRANSPOSED[len(self.small)](x, w, None, *form)
        return y

    def down(self, g: Tensor, w: Tensor) -> Tensor:
        y: Tensor = ORDINARY[len(self.small)](g, w, None, self.stride, self.padding, self.dilation, self.groups)
        for d, n in enumerate(self.small):
            y = y.narrow(d + 2, 0, n)
        return y

    def between(self, x: Tensor, g: Tensor) -> Tensor:
        w = x.new_zeros(x.shape[1], g.shape[1] // self.groups, *self.kernel).requires_grad_()
        (dw,) = torch.autograd.grad(self.up(x.detach(), w), w, g.detach())
        return dw


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(y, [d for d in range(y.ndim) if d != 1], correction=0)
    return mean, var


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16, so that small layers have several in every direction."""
    place("triton")
    monkeypatch.setattr(sizes, "SMALL", sizes.SMALL._replace(rows=16, cols=16, chunk=16))


def agrees(case: Case, dtype: torch.dtype = torch.float32) -> None:
    """The three maps and the statistics against float64, and against the error of PyTorch in the same precision."""
    x, w, g = case.draw(dtype)
    y, mean, var = transposed(x, w, case.geometry, True)
    dx = correlate(g, w, case.geometry, case.small)
    dw = weight_gradient(x, g, case.geometry, case.kernel)
    wide = [t.double() for t in (x, w, g)]
    rows: tuple[tuple[str, Tensor, Callable[..., Tensor], tuple[int, int]], ...] = (
        ("transposed", y, case.up, (0, 1)),
        ("correlate", dx, case.down, (2, 1)),
        ("weight gradient", dw, case.between, (0, 2)),
    )
    for name, found, reference, (a, b) in rows:
        assert_close(found, reference(wide[a], wide[b]), name, reference((x, w, g)[a], (x, w, g)[b]))
    # The interpreter keeps y in float32 until the kernel has ended.
    rounding = torch.finfo(dtype).eps if dtype != torch.float32 else 0.0
    for found, truth, plain in zip((mean, var), moments(y.double()), moments(y.float()), strict=True):
        assert relative(found, truth) <= max(3e-6, 3 * relative(plain, truth), rounding)


SMALL = Case(1, (2, 3), (3, 9), (4, 4))
CASES = {
    "small": SMALL,
    "dcgan": Case(1, (4, 5), (17, 18), (4, 4)),
    "kernel of 5": Case(1, (3, 2), (5, 9), (5, 5), 2, 2, 1),
    "kernel below stride": Case(2, (3, 2), (5, 9), (1, 2), 2, 0, 1),
    "stride 1": Case(1, (5, 4), (9, 33), (3, 2), 1),
    "stride 3": Case(1, (3, 2), (5, 9), (5, 4), 3, 1, 2),
    "padding beyond the kernel": Case(1, (5, 4), (3, 33), (2, 3), 1, 2),
    "sound": Case(2, (9,), (17, 9), (5,), 4, 2, 3),
    "volumes": Case(1, (2, 3, 2), (4, 5), (2, 4, 3), 2, 1, 1),
    "first layer": Case(17, (1, 1), (17, 5), (4, 2), 1, 0),
    "first layer, padded": Case(3, (1, 1), (9, 9), (4, 4), 2, 1, 1),
    "last layer": Case(1, (4, 5), (20, 3), (4, 4)),
    "last layer, stride 1": Case(1, (5, 4), (9, 3), (3, 3), 1),
    "last layer of volumes": Case(1, (2, 1, 2), (5, 1), (3, 3, 2), 2, 1, 1),
    "one channel": Case(17, (1, 1), (1, 17), (3, 2), 1, 0),
    "grouped": Case(2, (3, 4), (6, 4), (4, 4), groups=2),
    "dilated": Case(2, (3, 4), (6, 4), (3, 3), 2, 2, 1, dilation=2),
    "more padding than stride": Case(2, (4,), (3, 4), (3,), 1, 1, 1, dilation=2),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_pytorch(name: str) -> None:
    agrees(CASES[name])


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_kernels_and_strides(kernel: int, stride: int) -> None:
    agrees(Case(1, (5,), (3, 33), (kernel,), stride, kernel // 2, stride - 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["small", "last layer", "one channel"])
def test_low_precision(name: str, dtype: torch.dtype) -> None:
    agrees(CASES[name], dtype)


def test_phases_that_differ_in_taps_may_share_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    if _triton.INTERPRETED and not loops_end_at_tensors():
        pytest.skip("this interpreter's loops cannot end at a computed number")
    monkeypatch.setattr(sizes, "computed_loops", lambda: True)
    agrees(CASES["kernel of 5"])
    agrees(CASES["stride 3"])


@_triton.jit
def _count(out_ptr):  # type: ignore[no-untyped-def]
    for _ in range(_triton.tl.load(out_ptr)):
        _triton.tl.store(out_ptr + 1, 7)


def loops_end_at_tensors() -> bool:
    out = torch.ones(2, dtype=torch.int32, device=place("triton"))
    try:
        _triton.launch(_count, 1, out, out)
    except Exception:
        return False
    return bool(out[1] == 7)


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BIG", 0)
    for name in ("small", "kernel below stride", "last layer of volumes"):
        agrees(CASES[name])


def test_sums_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "programs", lambda like: 64)
    seen = launches(monkeypatch)
    agrees(SMALL._replace(channels=(3, 17)))  # 2 steps a tap: 8 parts of the adjoint
    agrees(Case(9, (4, 4), (3, 9), (2, 1), 2, 0))  # 9 steps: 2 parts of the weight gradient
    assert [kernel for kernel, *_ in seen].count(kernels.add_kernel) == 2


def launches(monkeypatch: pytest.MonkeyPatch, run: bool = True) -> list[tuple[Any, int, dict[str, Any]]]:
    """Records (kernel, programs, options) of each launch; run: and launches."""
    seen: list[tuple[Any, int, dict[str, Any]]] = []
    launch = _triton.launch

    def record(kernel: Any, programs: int, *args: Any, **options: Any) -> None:
        seen.append((kernel, programs, options))
        if run:
            launch(kernel, programs, *args, **options)

    monkeypatch.setattr(_triton, "launch", record)
    return seen


def test_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program for all phases of few channels; one launch for a first layer; a launch a phase where their taps differ."""
    seen = launches(monkeypatch)
    routes = {"last layer": [kernels.patch_kernel], "first layer": [kernels.gemm_kernel], "kernel of 5": [kernels.gemm_kernel] * 4}
    for name, expected in routes.items():
        x, w, _ = CASES[name].draw()
        seen.clear()
        transposed(x, w, CASES[name].geometry, False)
        assert [kernel for kernel, *_ in seen] == expected, name
    x, w, g = CASES["last layer"].draw()
    correlate(g, w, CASES["last layer"].geometry, x.shape[2:])
    weight_gradient(x, g, CASES["last layer"].geometry, w.shape[2:])
    assert [options["FLAT"] for _, _, options in seen[-2:]] == [True, True]


@pytest.mark.parametrize("columns", [5, 40])
def test_statistics_far_from_zero(columns: int) -> None:
    """Mean 1000, deviation 1, in several tiles: of sums of squares no digit would be left."""
    x = torch.stack([torch.randn(40, 3, 3), torch.full((40, 3, 3), 1e3)], 1).to(place("triton"))
    w = torch.ones(2, columns, 1, 1, device=x.device)
    y, mean, var = transposed(x, w, Geometry((1, 1), (0, 0), (0, 0), (1, 1)), True)
    true_mean, true_var = moments(y.double())
    assert 0.5 < float(true_var.max()) < 2
    assert float((mean - true_mean).abs().max()) < 1e-3
    assert float((var - true_var).abs().max()) < 1e-3


def test_moments_of_many_tiles_merge() -> None:
    """More tiles than one step takes, of different numbers, some of none, whose means drift."""
    numbers = torch.randint(0, 4, (700,))
    values = [torch.randn(int(n), 5, dtype=torch.float64) + i / 10 for i, n in enumerate(numbers)]
    rows = [(v.new_full((5,), len(v)), v.sum(0) / max(1, len(v)), (v - v.mean(0)).square().sum(0)) for v in values]
    parts = torch.stack([torch.stack(row) for row in rows], 1).float().to(place("triton"))
    for found, truth in zip(device._moments(parts), moments(torch.cat(values)), strict=True):
        assert relative(found.cpu(), truth) < 1e-6


def test_any_layout() -> None:
    case = SMALL._replace(batch=2)
    x, w, g = case.draw()
    y, _, _ = transposed(x, w, case.geometry, False)
    assert y.is_contiguous(memory_format=torch.channels_last)
    same = (
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack([x, x + 1], 2)[:, :, 0],
    )
    for other in same:
        assert_same_bits(transposed(other, w, case.geometry, False)[0], y, str(other.stride()))
    spread = x[:1, :, :1, :1].expand(2, -1, 2, 3)
    w_last = w.contiguous(memory_format=torch.channels_last)
    found, _, _ = transposed(spread, w_last, case.geometry, False)
    assert_same_bits(found, transposed(spread.contiguous(), w, case.geometry, False)[0], "expanded")
    assert_same_bits(correlate(g.expand_as(g), w_last, case.geometry, case.small), correlate(g, w, case.geometry, case.small), "g")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("name", ["small", "last layer", "kernel of 5"])
def test_infinities_reach_what_they_meet(name: str) -> None:
    """Not the zeros that stand beyond a border, nor other columns of a tile; as PyTorch's transposed convolution has it."""
    case = CASES[name]
    specials = torch.tensor([torch.nan, torch.inf, -torch.inf], device=place("triton"))
    for spoiled in range(2):
        x, w, g = case.draw()
        (x, w)[spoiled].view(-1)[:3] = specials
        assert torch.equal(transposed(x, w, case.geometry, False)[0].isfinite(), case.up(x, w).isfinite())
    met = case.down(torch.ones_like(g), (~w.isfinite()).float()) > 0
    found = correlate(g, w, case.geometry, case.small)
    assert torch.equal(found.isfinite(), ~met)
    assert_close(found[~met], case.down(g.double(), w.nan_to_num(0, 0, 0).double())[~met], "elsewhere")


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 0, 2, 2)])
def test_nothing_to_sum(shape: tuple[int, ...]) -> None:
    geometry = CASES["dcgan"].geometry
    x, w = torch.randn(shape), torch.randn(shape[1], 4, 4, 4)
    y, _, _ = transposed(x, w, geometry, False)
    assert y.shape == (shape[0], 4, 4, 4)
    assert not y.any()
    assert correlate(y, w, geometry, (2, 2)).shape == shape
    assert not weight_gradient(x, y, geometry, (4, 4)).any()


def test_same_bits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "programs", lambda like: 64)
    case = SMALL._replace(channels=(3, 17))
    x, w, g = case.draw()

    def once() -> tuple[Tensor, ...]:
        down = correlate(g, w, case.geometry, case.small)
        return *transposed(x, w, case.geometry, True), down, weight_gradient(x, g, case.geometry, case.kernel)

    for first, second in zip(once(), once(), strict=True):
        assert_same_bits(first, second, "again")


# -- derivatives ------------------------------------------------------------------------------------------------------------

GROUPED = Case(2, (3, 2), (4, 2), (3, 4), 2, 1, 1, groups=2)


def maps(case: Case) -> dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[str, str]]]:
    """Each map, its reference, and the names of its factors."""
    form = case.geometry
    return {
        "transposed": (lambda x, w: transposed(x, w, form, False)[0], case.up, ("x", "w")),
        "correlate": (lambda g, w: correlate(g, w, form, case.small), case.down, ("g", "w")),
        "weight gradient": (lambda x, g: weight_gradient(x, g, form, case.kernel), between_twice(case), ("x", "g")),
    }


def between_twice(case: Case) -> Callable[..., Tensor]:
    """The weight gradient, differentiable: of every output with itself in the place of the gradient."""

    def between(x: Tensor, g: Tensor) -> Tensor:
        w = torch.zeros(x.shape[1], g.shape[1] // case.groups, *case.kernel, dtype=x.dtype, device=x.device, requires_grad=True)
        (dw,) = torch.autograd.grad(case.up(x, w), w, g, create_graph=True)
        return dw

    return between


@pytest.mark.parametrize("name", ["transposed", "correlate", "weight gradient"])
@pytest.mark.parametrize("columns", [3, 9])
def test_derivatives(columns: int, name: str) -> None:
    case = SMALL._replace(channels=(5, columns))
    named = dict(zip("xwg", case.draw(), strict=True))
    ours, reference, factors = maps(case)[name]
    assert_agrees(ours, reference, {n: named[n] for n in factors}, {}, 2, name)


@pytest.mark.parametrize("name", ["transposed", "correlate", "weight gradient"])
def test_derivatives_of_any_order_in_float64(name: str) -> None:
    named = dict(zip("xwg", GROUPED.draw(torch.float64), strict=True))
    ours, _, factors = maps(GROUPED)[name]
    tensors = tuple(named[n].requires_grad_() for n in factors)
    assert torch.autograd.gradcheck(ours, tensors)
    assert torch.autograd.gradgradcheck(ours, tensors)


def test_no_weight_gradient_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers, a gradient in the input, and then that of its square in everything."""
    calls: list[str] = []

    def counted(body: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any) -> Tensor:
            calls.append(body.__name__)
            return body(*args)

        return call

    for body in (device.correlate, device.weight_gradient):
        monkeypatch.setattr(device, body.__name__, counted(body))
    case = Case(1, (2, 2), (3, 3), (2, 2), 2, 0)
    x, w, _ = (t.requires_grad_() for t in case.draw())
    v = w.detach().clone().requires_grad_()
    y = torch.tanh(transposed(x, w, case.geometry, False)[0])
    z = transposed(y, v, case.geometry, False)[0]
    (dx,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
    assert calls == ["correlate"] * 2
    calls.clear()
    torch.autograd.grad(dx.square().sum(), w, retain_graph=True)
    assert calls.count("weight_gradient") == 2, "of the first layer's forward and backward"
    calls.clear()
    torch.autograd.grad(dx.square().sum(), (w, v))
    assert calls.count("weight_gradient") == 4
    assert not torch.equal(w, v + 1)


def test_no_weight_gradient_under_a_dispatch_mode() -> None:
    case = Case(1, (2, 2), (3, 3), (2, 2), 2, 0)
    x, w, _ = case.draw()
    fn = lambda x, w: transposed(x, w, case.geometry, False)[0]
    assert weight_gradients(fn, {"x": x, "w": w}, {}, ["x"], "gancore::conv_weight_gradient") == (0, 2)


def test_graphs_go_on_through_both_factors() -> None:
    """The factor that a node holds without an edge to it may be no leaf, and must not change before the backward."""
    case = GROUPED
    x, w, _ = (t.requires_grad_() for t in case.draw(torch.float64))
    found = []
    for fn in (lambda x, w: transposed(x, w, case.geometry, False)[0], case.up):
        (dx,) = torch.autograd.grad(fn(x * 2, w.square()).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), (x, w)))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, "second derivative")
    changed = w * 1
    y, _, _ = transposed(x, changed, case.geometry, False)
    with torch.no_grad():
        changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y.sum(), x)


def test_statistics_have_no_derivative() -> None:
    case = GROUPED
    x, w, _ = (t.requires_grad_() for t in case.draw())
    args = (x, w, True, *case.geometry, "triton")
    for call in (lambda: transposed(x, w, case.geometry, True), lambda: operators._transposed(*args)):
        y, mean, var = call()
        assert (y.requires_grad, mean.requires_grad, var.requires_grad) == (True, False, False)
        assert mean.dtype == var.dtype == torch.float32


@pytest.mark.parametrize("case", [SMALL, GROUPED], ids=["kernel", "library"])
def test_registration(case: Case) -> None:
    x, w, g = (t.requires_grad_() for t in case.draw())
    torch.library.opcheck(operators._transposed, (x, w, True, *case.geometry, "triton"))
    torch.library.opcheck(operators._correlate, (g, w, case.small, *case.geometry, "triton"))
    torch.library.opcheck(operators._weight_gradient, (x, g, case.kernel, *case.geometry, "triton"))


# -- geometry, sizes, bytes -------------------------------------------------------------------------------------------------


def test_shapes() -> None:
    for case in CASES.values():
        form, large = case.geometry, case.geometry.large(case.small, case.kernel)
        assert form._replace(output_padding=()).reaching(case.small, large, case.kernel) == form
        if case.more < case.stride:
            assert form.small(large, case.kernel) == case.small


DCGAN = ((100, 512, 1), (512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 3, 32))


def layer(given: int, made: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Geometry]:
    x = torch.empty(128, given, size, size, dtype=dtype)
    w = torch.empty(given, made, 4, 4, dtype=dtype)
    form = CASES["first layer" if size == 1 else "dcgan"].geometry
    return x, w, form


@pytest.fixture
def large_gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int, dict[str, Any]]]:
    """Sizes as on a GPU of 132 processors, and the launches, which do nothing."""
    monkeypatch.setattr(_triton, "INTERPRETED", False)
    monkeypatch.setattr(sizes, "programs", lambda like: 132)
    return launches(monkeypatch, run=False)


def test_variants_compiled_ahead_are_those_that_run(large_gpu: list[tuple[Any, int, dict[str, Any]]]) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        for shape in DCGAN:
            x, w, form = layer(*shape, dtype)
            y, _, _ = transposed(x, w, form, shape[1] > 3)
            correlate(y, w, form, x.shape[2:])
            weight_gradient(x, y, form, w.shape[2:])
    x, w, _ = layer(256, 128, 8, torch.bfloat16)
    five = torch.empty(256, 128, 5, 5, dtype=torch.bfloat16)
    transposed(x, five, CASES["kernel of 5"].geometry, True)
    run = [(kernel, options) for kernel, _, options in large_gpu]
    for variant in ahead():
        constants = {n: v for n, v in variant.constants.items() if n not in ("x0", "y0", "g0")}
        constants |= {"num_warps": variant.warps, "num_stages": variant.stages} if "BK" in constants else {}
        assert any(kernel is variant.kernel and constants.items() <= options.items() for kernel, options in run), constants


@pytest.mark.usefixtures("large_gpu")
def test_bytes_moved() -> None:
    """Where a cache keeps what programs share, a forward call moves little more than the least."""
    for shape in DCGAN:
        x, w, form = layer(*shape, torch.bfloat16)
        moved = device.bytes_moved(x, w, form, shape[1] > 3)
        y = 128 * shape[1] * (16 if shape[2] == 1 else (2 * shape[2]) ** 2)
        assert moved.least == 2 * (x.numel() + w.numel() + y)
        assert moved.cached <= 1.15 * moved.least
        assert moved.uncached > moved.cached
        assert moved.cache < 20 << 20
