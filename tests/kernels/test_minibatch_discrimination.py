"""What is special to minibatch_discrimination; the contract test has the rest."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gancore.kernels import _dispatch
from gancore.kernels import minibatch_discrimination as near
from gancore.kernels._spec import specs
from tests.kernels.checks import assert_agrees, assert_close, assert_same_bits, derivatives
from tests.kernels.walk import place

IMPLS = ("native", "triton", "reference")
SPEC = specs()["minibatch_discrimination"]


def by_loops(x: Tensor) -> Tensor:
    """The paper's sum, pair by pair."""
    out = torch.zeros(x.shape[:2], dtype=torch.float64)
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                for b in range(x.shape[1]):
                    out[i, b] += math.exp(-sum(abs(float(x[i, b, c]) - float(x[j, b, c])) for c in range(x.shape[2])))
    return out


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(9, 3, 5), (2, 1, 1), (1, 2, 3), (19, 2, 7)])
def test_equals_the_double_loop(impl: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch.testing.assert_close(near(x.to(place(impl)), impl=impl).cpu().double(), by_loops(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("impl", IMPLS)
def test_known_answers(impl: str) -> None:
    """Three points at 0, 1 and 3: a value, and the slope of the middle one's, by hand."""
    e = math.exp
    x = torch.tensor([0.0, 1.0, 3.0], device=place(impl)).view(3, 1, 1).requires_grad_()
    y = near(x, impl=impl)
    torch.testing.assert_close(y.cpu().flatten(), torch.tensor([e(-1) + e(-3), e(-1) + e(-2), e(-3) + e(-2)]))
    (g,) = torch.autograd.grad(y[1].sum(), x)
    torch.testing.assert_close(g.cpu().flatten(), torch.tensor([e(-1), e(-2) - e(-1), -e(-2)]))


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_samples_count_whole_and_have_no_slope(impl: str) -> None:
    """exp(0) each; the derivative of |.| at 0 is 0, in every order."""
    x = torch.randn(1, 2, 3, device=place(impl)).expand(6, 2, 3)
    found = derivatives(lambda x: near(x, impl=impl), {"x": x}, {})
    assert (found["y0"] == 5).all()
    assert not any(found[name].any() for name in ("d_x", "dd_x", "dd_seed0"))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("impl", IMPLS)
def test_samples_at_infinity_are_far_from_all_others(impl: str) -> None:
    x = torch.zeros(4, 1, 2, device=place(impl))
    x[0, 0, 0] = torch.inf
    x[1, 0, 0] = -torch.inf
    x[2] = 1e4
    leaf = x.clone().requires_grad_()
    y = near(leaf, impl=impl)
    assert not y.any()
    y.sum().backward()
    assert not leaf.grad[2:].any()


def test_native_strips_tiles_and_channel_groups() -> None:
    """Sizes around those that the kernel cuts at: 128 rows, 32 partners, 4 channels, rows in sixteens."""
    place("native")
    for n, channels in ((127, 3), (128, 4), (129, 5), (160, 8), (33, 9), (15, 6), (257, 2)):
        x = torch.randn(n, 2, channels)
        assert_agrees(lambda x: near(x, impl="native"), SPEC.reference, {"x": x}, {}, 2, str(tuple(x.shape)))


def test_the_reference_in_parts_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(11, 3, 4)
    whole = near(x, impl="reference")
    monkeypatch.setattr(sys.modules[SPEC.reference.__module__], "PAIRS", 3 * x.numel())
    torch.testing.assert_close(near(x, impl="reference"), whole)


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    place("native")
    for shape in ((300, 5, 3), (40, 33, 6)):
        x = torch.randn(shape, dtype=torch.float64)
        runs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            try:
                runs.append(derivatives(lambda x: near(x, impl="native"), {"x": x}, {}))
            finally:
                torch.set_num_threads(1)
        for run in runs[1:]:
            for name, value in runs[0].items():
                assert_same_bits(run[name], value, name)


def test_a_sum_over_many_samples_is_exact() -> None:
    """float32 sums run over one tile of partners, so that a large batch loses no digits."""
    place("native")
    x = torch.randn(5000, 1, 2)
    assert_close(near(x, impl="native"), SPEC.reference(x.double()), "o")


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operator returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            self.numel = max(self.numel, t.numel() if isinstance(t, Tensor) else 0)
        return result


@pytest.mark.parametrize("impl", ["native", "triton"])
def test_no_tensor_of_all_pairs(impl: str) -> None:
    """In no order of derivative, saved or passing; the reference shows that one would be seen."""
    x = torch.randn(40, 2, 3, device=place(impl))
    for body in (impl, "reference"):
        with Largest() as largest:
            derivatives(lambda x, body=body: near(x, impl=body), {"x": x}, {})
        assert (largest.numel <= x.numel()) == (body == impl)


def test_native_kernels_take_no_memory_of_all_pairs() -> None:
    """What the C++ takes is no tensor: 40 MB of pairs would show in the peak of a process, which grows by less than 8."""
    place("native")
    code = """
import resource, torch
from gancore.kernels import minibatch_discrimination as near
def step(n):
    x = torch.randn(n, 10, 4, requires_grad=True)
    (g,) = torch.autograd.grad(near(x, impl="native").sum(), x, create_graph=True)
    torch.autograd.grad(g.square().sum(), x)
step(8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(1000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 10


def test_a_gradient_penalty_through_it() -> None:
    """The second derivative in what feeds x, against the reference: the way of R1 through MinibatchDiscrimination."""
    place("native")
    weight = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    h = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for impl in ("native", "reference"):
        y = near((h @ weight).view(6, 2, 4), impl=impl)
        (g,) = torch.autograd.grad(y.square().sum(), h, create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), [weight, h]))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, "gradient of the penalty")


def test_third_derivatives_are_refused() -> None:
    place("native")
    x = torch.randn(4, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(near(x, impl="native").square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"third derivative of minibatch_discrimination is not offered .*'reference'"):
        second.sum().backward()


def test_autocast_computes_in_float32() -> None:
    place("native")
    x = torch.randn(5, 2, 3).to(torch.bfloat16)
    for impl in ("native", "reference"):
        with torch.autocast("cpu", torch.bfloat16):
            y = near(x, impl=impl)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, near(x.float(), impl=impl))
        assert near(x, impl=impl).dtype == torch.bfloat16


@pytest.mark.gpu
def test_offsets_beyond_2_to_31() -> None:
    """Samples act on each other, so it is the kernels that are many here, not the samples."""
    device = place("triton")
    small = torch.randn(3, 4, 5, device=device, dtype=torch.bfloat16)
    large = small.repeat(1, (1 << 31) // small.numel() + 2, 1)
    assert large.numel() > 1 << 31
    assert_same_bits(near(large, impl="triton")[:, -4:], near(small, impl="triton"), "last kernels")


def test_empty_sizes() -> None:
    place("native")
    for impl in IMPLS[:1] + IMPLS[2:]:
        assert near(torch.zeros(0, 3, 4), impl=impl).shape == (0, 3)
        assert near(torch.zeros(3, 0, 4), impl=impl).shape == (3, 0)
        assert (near(torch.zeros(3, 2, 0), impl=impl) == 2).all()


def test_classes_of_the_table_are_those_of_the_pairs() -> None:
    """The rows of the table are reached by calls of their own sizes."""
    sizes = {b.shape_class: b.draw(torch.Generator())["x"] for b in SPEC.bench}
    assert all(_dispatch.size_class(len(x) * x.numel()) == name for name, x in sizes.items())
