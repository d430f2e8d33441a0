"""What is special to bias_act; the contract test has the rest."""

import math

import pytest
import torch
from torch import Tensor

from gancore.kernels import bias_act, profile_ranges
from gancore.kernels._activations import ACTS
from gancore.kernels.bias_act import reference
from tests.kernels.checks import Calls, assert_close, assert_same_bits
from tests.kernels.walk import place

IMPLS = ("native", "triton", "reference")
LOW = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("impl", IMPLS)
def test_known_answers(impl: str) -> None:
    x = torch.tensor([[-2.0, -0.5, 0.0, 3.0]], device=place(impl))
    b = torch.tensor([1.0, 0.0, 0.0, -1.0], device=x.device)
    e = math.e
    answers = {
        "linear": [-1, -0.5, 0, 2],
        "relu": [0, 0, 0, 2],
        "leaky_relu": [-0.25, -0.125, 0, 2],
        "elu": [1 / e - 1, e**-0.5 - 1, 0, 2],
        "silu": [-1 / (1 + e), -0.5 / (1 + e**0.5), 0, 2 / (1 + e**-2)],
        "tanh": [math.tanh(-1), math.tanh(-0.5), 0, math.tanh(2)],
        "sigmoid": [1 / (1 + e), 1 / (1 + e**0.5), 0.5, 1 / (1 + e**-2)],
        "softplus": [math.log(1 + 1 / e), math.log(1 + e**-0.5), math.log(2), math.log(1 + e**2)],
    }
    assert set(answers) == set(ACTS)
    for act, answer in answers.items():
        y = bias_act(x, b, act=act, slope=0.25, gain=2.0, clamp=1.5, impl=impl)
        expected = (2 * torch.tensor([answer], dtype=torch.float64)).clamp(-1.5, 1.5)
        torch.testing.assert_close(y.double().cpu(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("impl", ["native", "triton"])
def test_accurate_over_the_whole_range(impl: str, act: str) -> None:
    """Element by element, far into both tails, values and both derivatives."""
    device = place(impl)
    x = torch.cat([torch.linspace(-120, 120, 4001), torch.logspace(-30, 2, 500), -torch.logspace(-30, 2, 500)]).to(device)
    b = torch.zeros(1, device=device)
    for dtype in (torch.float32, torch.float64) if impl == "native" else (torch.float32,):
        found, truth = [], []
        for fn, t, out in ((bias_act, x.to(dtype), found), (reference, x.double(), truth)):
            t = t.clone().requires_grad_()
            kwargs = {"impl": impl} if fn is bias_act else {}
            y = fn(t[:, None], b.to(t), act=act, **kwargs)
            (g,) = torch.autograd.grad(y.sum(), t, create_graph=True)
            out += [y.detach()[:, 0], g.detach()]
            if g.requires_grad:
                out.append(torch.autograd.grad(g.sum(), t, allow_unused=True, materialize_grads=True)[0])
        eps = torch.finfo(dtype).eps
        for order, (ours, theirs) in enumerate(zip(found, truth, strict=False)):
            # Values to a relative error; derivatives, which come from the rounded output, to an absolute one.
            scale = theirs.abs().clamp_min(1e-30) if order == 0 else theirs.abs().clamp_min(1.0)
            worst = float(((ours.double() - theirs).abs() / scale).where(theirs.abs() > 1e-37, 0).max())
            assert worst < (6 if order == 0 else 12) * eps * (40 if impl == "triton" else 1), (
                f"{dtype}, order {order}: {worst / eps} eps"
            )


@pytest.mark.parametrize("dtype", LOW)
def test_native_conversions_are_exact(dtype: torch.dtype) -> None:
    """Every 16-bit number passes through the kernel unchanged, and every float is rounded to nearest even as PyTorch rounds
    it."""
    place("native")
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    same = bias_act(every, torch.zeros_like(every[:1]).expand(1 << 16).contiguous(), 0, gain=1.0, clamp=math.inf, impl="native")
    assert_same_bits(same.float(), every.float() + 0.0, "all numbers")
    wide = torch.cat([torch.randn(20_000) * s for s in (1e-8, 1e-6, 1e-3, 1.0, 1e4, 1e5)])
    factor = 1 + torch.rand(1).item() / 256
    ours = bias_act(wide.to(dtype), None, act="leaky_relu", slope=0.3, gain=factor, impl="native")
    exact = torch.nn.functional.leaky_relu(wide.to(dtype).float(), 0.3) * torch.tensor(factor)
    assert_same_bits(ours, exact.to(dtype), "rounding")


def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    """In float64: sums are taken in it, so that in float32 rounding would hide another order."""
    place("native")
    x = torch.randn(7, 33, 40, 20, dtype=torch.float64, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        b = torch.randn(33, dtype=torch.float64, requires_grad=True)
        y = bias_act(x.contiguous(memory_format=layout), b, act="silu", impl="native")
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.autograd.grad(y.square().sum(), [x, b], retain_graph=True))
        torch.set_num_threads(1)
        for some in found[1:]:
            for first, other in zip(found[0], some, strict=True):
                assert_same_bits(other, first, str(layout))
        truth = reference(x, b, act="silu").square().sum()
        assert_close(found[0][1], torch.autograd.grad(truth, b)[0], "db")


def saved(y: Tensor) -> list[int]:
    """Where the tensors lie that the graph of y keeps."""
    return [t.data_ptr() for t in y.grad_fn.saved_tensors if t is not None]


@pytest.mark.parametrize("impl", ["native", "triton"])
def test_keeps_the_output_alone_where_that_is_enough(impl: str) -> None:
    x, b = torch.randn(2, 3, device=place(impl), requires_grad=True), torch.randn(3, device=place(impl))
    for act, row in ACTS.items():
        y = bias_act(x, b, act=act, impl=impl)
        kept = [y.data_ptr()] if row.from_output else [x.data_ptr(), b.data_ptr()]
        assert saved(y) == kept, act
    assert saved(bias_act(x, b, act="tanh", clamp=0.5, impl=impl)) == [x.data_ptr(), b.data_ptr()]


@pytest.mark.parametrize("impl", ["native", "triton"])
@pytest.mark.parametrize(("gain", "slope"), [(0.0, 0.2), (-1.5, 0.2), (1.0, -0.3), (2.0, 0.0)])
def test_gains_and_slopes_of_any_sign(impl: str, gain: float, slope: float) -> None:
    x, b = torch.randn(4, 5, device=place(impl)), torch.randn(5, device=place(impl))
    for act in ACTS:
        pair = []
        for fn in (lambda *a, **k: bias_act(*a, **k, impl=impl), reference):
            t = x.clone().requires_grad_()
            y = fn(t, b, act=act, gain=gain, slope=slope)
            pair.append((y.detach(), torch.autograd.grad(y.square().sum(), t)[0]))
        for ours, theirs in zip(*pair, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)


def test_kernel_with_wide_offsets_equals_the_narrow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from gancore.kernels import _triton

    x, b = torch.randn(3, 5, 700, device=place("triton")), torch.randn(5, device=place("triton"))
    narrow = bias_act(x, b, act="elu", impl="triton")
    launch, seen = _triton.launch, []

    def wide(*args, **options) -> None:
        seen.append(options["WIDE"])
        launch(*args, **options | {"WIDE": True})

    monkeypatch.setattr(_triton, "launch", wide)
    assert_same_bits(bias_act(x, b, act="elu", impl="triton"), narrow, "wide")
    assert seen == [False]


def test_third_derivatives() -> None:
    """Any order where the slope is piecewise constant, an error that names the way out where it is not."""
    place("native")
    for act, row in ACTS.items():
        x = torch.randn(5, 3, requires_grad=True)
        y = bias_act(x, torch.randn(3), act=act, impl="native").pow(3).sum()
        first = torch.autograd.grad(y, x, create_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]
        if not row.smooth:
            torch.autograd.grad(second.sum(), x)
            continue
        with pytest.raises(NotImplementedError, match=r"third derivative of bias_act .* is not offered .* impl='reference'"):
            torch.autograd.grad(second.sum(), x)


def test_one_step_is_left_to_pytorch_and_never_aliases() -> None:
    x, b = torch.randn(2, 3), torch.randn(3)
    with Calls() as calls:
        for kwargs in ({"act": "relu"}, {"b": b}, {"gain": 2.0}, {"clamp": 1.0}, {}):
            bias_act(x, **kwargs)
    assert not calls.seen
    assert bias_act(x).data_ptr() != x.data_ptr()
    assert_same_bits(bias_act(x, act=None), x, "identity")


def test_bias_of_any_layout() -> None:
    for impl in IMPLS:
        x = torch.randn(2, 6, device=place(impl))
        for b in (torch.randn(12, device=x.device)[::2], torch.randn(1, device=x.device).expand(6)):
            torch.testing.assert_close(bias_act(x, b, act="tanh", impl=impl), torch.tanh(x + b))


def test_ranges_show_up_once_switched_on() -> None:
    def names() -> set[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            bias_act(torch.randn(2, 3), torch.randn(3), act="relu", impl="reference")
        return {event.name for event in profile.events()}

    assert "gancore::bias_act" not in names()
    profile_ranges()
    try:
        assert "gancore::bias_act" in names()
    finally:
        profile_ranges(False)
    assert "gancore::bias_act" not in names()
