"""What is special to kernel sums: known values, estimators by their definitions, hard numbers, many tiles, memory."""

import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gancore.kernels import (
    Kernel,
    energy,
    gaussian,
    inverse_multiquadric,
    kernel_dot,
    kernel_matrix,
    laplacian,
    linear,
    median_bandwidth,
    mmd2,
    mmd_test,
    polynomial,
    rational_quadratic,
    witness,
)
from gancore.kernels.kernel_sums.kernel import KINDS, pack
from tests.kernels.checks import relative
from tests.kernels.walk import place

ROOT = Path(__file__).resolve().parents[2]
IMPLS = ("native", "reference")

# name: the kernel, and its value by the formula of its docstring
KNOWN: dict[str, tuple[Kernel, Any]] = {
    "gaussian": (gaussian([0.5, 3.0], [2.0, -1.0]), lambda r, l, t, d: 2 * math.exp(-(r**2) / 0.5) - math.exp(-(r**2) / 18)),
    "one bandwidth": (gaussian(2.0), lambda r, l, t, d: math.exp(-(r**2) / 8)),
    "rational quadratic": (
        rational_quadratic([0.5, 2], weights=[1.0, 3.0]),
        lambda r, l, t, d: (1 + r**2) ** -0.5 + 3 * (1 + r**2 / 4) ** -2,
    ),
    "inverse multiquadric": (inverse_multiquadric([1.0, 4.0]), lambda r, l, t, d: 1 / (1 + r**2) + 4 / (4 + r**2)),
    "laplacian": (laplacian([1.0, 5.0]), lambda r, l, t, d: math.exp(-l) + math.exp(-l / 5)),
    "energy": (energy(), lambda r, l, t, d: -r),
    "energy 1.5": (energy(1.5), lambda r, l, t, d: -(r**1.5)),
    "polynomial": (polynomial(), lambda r, l, t, d: (t / d + 1) ** 3),
    "polynomial of numbers": (polynomial(5, gamma=0.3, coef0=-0.5), lambda r, l, t, d: (0.3 * t - 0.5) ** 5),
    "linear": (linear(), lambda r, l, t, d: t),
    "sum": (2 * energy() + linear() * 0.5 + gaussian(1.0), lambda r, l, t, d: -2 * r + 0.5 * t + math.exp(-(r**2) / 2)),
}
DEEP = {
    "chain": gaussian([1.5, 3.0, 6.0, 12.0]),
    "rational quadratic": rational_quadratic([0.5, 2.0]),
    "energy": energy(),
    "laplacian": laplacian([6.0, 20.0]),
    "polynomial": polynomial(4),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values_by_the_formula(name: str) -> None:
    kernel, formula = KNOWN[name]
    for features in (3, 20):
        x, y = torch.randn(4, features, dtype=torch.float64), torch.randn(3, features, dtype=torch.float64)
        truth = torch.tensor(
            [
                [formula((a - b).norm().item(), (a - b).abs().sum().item(), (a @ b).item(), features) for b in y]
                for a in x
            ],
            dtype=torch.float64,
        )
        torch.testing.assert_close(kernel_matrix(x, y, kernel), truth)
        one = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(kernel_dot(x, y, one, kernel, impl="native"), truth)
        single = kernel_dot(x.float(), y.float(), one[:, :1].float(), kernel, impl="native")
        torch.testing.assert_close(single, truth[:, :1].float())


def by_definition(k: Tensor, a: Tensor, b: Tensor, counts: Any) -> Tensor:
    pairs = [(i, j) for i, j in product(range(len(a)), range(len(b))) if counts(i, j)]
    return sum(a[i] * b[j] * k[i, j] for i, j in pairs) / sum(a[i] * b[j] for i, j in pairs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimator", ["biased", "unbiased", "block", "linear"])
def test_estimators_by_their_definitions(estimator: str, weighted: bool) -> None:
    n, block = 11, 3 if estimator == "block" else 2
    x, y = torch.randn(n, 4, dtype=torch.float64), torch.randn(n, 4, dtype=torch.float64) + 1
    a, b = (torch.rand(n, dtype=torch.float64) + 0.1 if weighted else torch.ones(n, dtype=torch.float64) for _ in range(2))
    together = {
        "biased": lambda i, j: True,
        "unbiased": lambda i, j: True,
        "block": lambda i, j: i // 3 == j // 3 < n // 3,
        "linear": lambda i, j: i // 2 == j // 2 < n // 2 and i != j,
    }[estimator]
    own = (lambda i, j: together(i, j) and i != j) if estimator != "biased" else together
    kernel = gaussian([1.0, 2.0]) + polynomial(2)
    xx, yy, xy = kernel_matrix(x, x, kernel), kernel_matrix(y, y, kernel), kernel_matrix(x, y, kernel)
    truth = by_definition(xx, a, a, own) + by_definition(yy, b, b, own) - 2 * by_definition(xy, a, b, together)
    weights = {"x_weights": 7 * a, "y_weights": b} if weighted else {}
    blocks = {"block": block} if estimator == "block" else {}
    for impl in IMPLS:
        torch.testing.assert_close(mmd2(x, y, kernel, estimator=estimator, impl=impl, **weights, **blocks), truth)
    if weighted and estimator != "block":
        leaves = [t.clone().requires_grad_() for t in (x, a)]

        def value(p: Tensor, w: Tensor) -> Tensor:
            return mmd2(p, y, gaussian(2.0), estimator=estimator, x_weights=w, y_weights=b, impl="native")

        assert torch.autograd.gradcheck(value, leaves)
        assert torch.autograd.gradgradcheck(value, leaves)


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("features", [5, 40])
def test_many_tiles_of_every_order(name: str, features: int) -> None:
    """Sizes that fill several tiles and leave rests; value and both derivatives, symmetric and not."""
    place("native")
    kernel = DEEP[name]
    generator = torch.Generator().manual_seed(features)
    x64, y64 = (torch.randn(n, features, generator=generator, dtype=torch.float64) for n in (291, 333))
    direction = torch.randn(291, features, generator=generator, dtype=torch.float64)
    found = []
    runs = ((torch.float64, "reference"), (torch.float32, "reference"), (torch.float32, "native"), (torch.float64, "native"))
    for dtype, impl in runs:
        x, y = x64.to(dtype).requires_grad_(), (y64 + 0.5).to(dtype).requires_grad_()
        value = mmd2(x, y, kernel, impl=impl)
        g = torch.autograd.grad(value, [x, y], create_graph=True)
        along = (g[0] * direction.to(dtype)).sum() + (g[1] ** 2).sum() * 100
        found.append([value.detach(), *g, *torch.autograd.grad(along, [x, y])])
    for truth, plain, single, double in zip(*found, strict=True):
        assert relative(single, truth) < max(3e-6, 3 * relative(plain, truth))
        assert relative(double, truth) < 1e-10


def test_blocks_larger_than_a_tile() -> None:
    x, y = torch.randn(900, 20, dtype=torch.float64), torch.randn(900, 20, dtype=torch.float64)
    truth = mmd2(x, y, gaussian(4.0), estimator="block", block=300, impl="reference")
    torch.testing.assert_close(mmd2(x, y, gaussian(4.0), estimator="block", block=300, impl="native"), truth)


@pytest.mark.parametrize("kernel", [gaussian([4.0, 8.0]), energy(), rational_quadratic(1.0), laplacian(20.0)], ids=str)
@pytest.mark.parametrize("features", [8, 40])
@pytest.mark.parametrize("impl", IMPLS)
def test_far_from_the_origin(kernel: Kernel, features: int, impl: str) -> None:
    """Mean 1e3, spread 1: |x|^2 + |y|^2 - 2 x.y loses all digits of float32."""
    x, y = torch.randn(200, features) + 1e3, torch.randn(200, features) + 1e3 + 0.5
    truth_of = x.double().requires_grad_()
    truth = mmd2(truth_of, y.double(), kernel, impl="reference")
    leaf = x.clone().requires_grad_()
    value = mmd2(leaf, y, kernel, impl=impl)
    assert relative(value, truth) < 1e-4
    assert relative(torch.autograd.grad(value, leaf)[0], torch.autograd.grad(truth, truth_of)[0]) < 1e-4


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("impl", IMPLS)
def test_identical_samples_have_no_distance(name: str, impl: str) -> None:
    kernel = KNOWN[name][0]
    for n, features in ((300, 20), (40, 3)):
        x = torch.randn(n, features)
        scale = kernel_matrix(x, x, kernel).abs().mean()
        assert abs(mmd2(x, x.clone(), kernel, estimator="biased", impl=impl)) < (2e-6 if impl == "native" else 1e-5) * scale


def test_close_pairs_among_distant_ones() -> None:
    """Clusters far apart: products alone would leave differences within them no digit."""
    centers = 300 * torch.randn(6, 48)
    x = centers.repeat(20, 1) + 0.1 * torch.randn(120, 48)
    y = centers.repeat(20, 1) + 0.1 * torch.randn(120, 48)
    v = torch.ones(120, 1)
    for kernel in (gaussian(1.0), energy(), rational_quadratic(1.0)):
        value = kernel_dot(x, y, v, kernel, impl="native")
        truth = kernel_dot(x.double(), y.double(), v.double(), kernel, impl="reference")
        assert relative(value, truth) < 1e-5


def test_narrow_bandwidths_are_powers_of_wide_ones() -> None:
    def squarings(kernel: Kernel) -> list[int]:
        return [code // KINDS for code in pack(kernel, 3, torch.device("cpu"))[0].codes]

    assert squarings(gaussian([1.0, 2.0, 4.0])) == [0, 2, 2]
    assert squarings(gaussian([1.0, math.sqrt(2), 4.0, 3.0])) == [0, 0, 0, 1]
    assert squarings(gaussian([2.0**-i for i in range(7)])) == [0, 2, 2, 2, 2, 0, 2]  # no more than eight in a row
    assert squarings(gaussian(torch.tensor([1.0, 2.0]))) == [0, 0]
    x, y = torch.rand(500, 2), torch.rand(500, 2)
    for bandwidths in ([0.25, 0.5, 1.0, 2.0, 4.0], [2**-1.5, 2**-1, 2**-0.5, 1.0], [0.5**8, 1.0]):
        truth = kernel_dot(x.double(), y.double(), torch.ones(500, 1).double(), gaussian(bandwidths), impl="reference")
        assert relative(kernel_dot(x, y, torch.ones(500, 1), gaussian(bandwidths), impl="native"), truth) < 2e-6


@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives_by_parameters_of_the_kernel(impl: str) -> None:
    x, y, v = (torch.randn(s, dtype=torch.float64) for s in ((5, 3), (6, 3), (6, 2)))
    makers = {
        "gaussian": lambda p: gaussian(p[:2], p[2:4]) * p[4],
        "rational quadratic": lambda p: rational_quadratic(p[:3]),
        "inverse multiquadric": lambda p: inverse_multiquadric(p[:2]),
        "laplacian": lambda p: laplacian(p[:2]),
        "polynomial": lambda p: polynomial(3, p[0], p[1]),
    }
    for make in makers.values():
        p = (torch.rand(5, dtype=torch.float64) + 0.5).requires_grad_()
        assert torch.autograd.gradcheck(lambda q, make=make: kernel_dot(x, y, v, make(q), impl=impl), p)
        assert torch.autograd.gradcheck(lambda q, make=make: mmd2(x, y, make(q), impl=impl), p)
        assert torch.autograd.gradcheck(lambda q, make=make: mmd2(x, y, make(q), estimator="biased", impl=impl), p)


def test_second_derivatives_by_parameters_of_the_kernel_are_refused() -> None:
    x, y = torch.randn(5, 3, requires_grad=True), torch.randn(6, 3)
    width = torch.tensor(1.5, requires_grad=True)
    for targets in ((x,), (width,)):
        (g,) = torch.autograd.grad(mmd2(x, y, gaussian(width), impl="native"), targets, create_graph=True)
        with pytest.raises(NotImplementedError, match=r"parameters of a kernel is not offered .* impl='reference'"):
            torch.autograd.grad(g.square().sum(), [x, width])
    (g,) = torch.autograd.grad(mmd2(x, y, gaussian(width), impl="reference"), (x,), create_graph=True)
    torch.autograd.grad(g.square().sum(), [x, width])


def test_a_penalty_on_the_gradient_of_the_witness() -> None:
    """As MMD GANs with a gradient penalty need it: through a network, down to its parameters."""
    found = []
    for dtype, impl in ((torch.float64, "reference"), (torch.float64, "native"), (torch.float32, "native")):
        torch.manual_seed(3)
        net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Softplus(), torch.nn.Linear(16, 20)).to(dtype)
        real, fake, between = (torch.randn(n, 2, dtype=torch.float64).to(dtype) for n in (9, 8, 7))
        between.requires_grad_()
        score = witness(net(between), net(real), net(fake), rational_quadratic([0.5, 1.0]), impl=impl)
        (g,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        penalty = (g.norm(dim=1) - 1).square().mean()
        gradients = torch.autograd.grad(penalty, list(net.parameters()), materialize_grads=True)
        found.append([score.detach(), penalty.detach(), *gradients])
    for truth, double, single in zip(*found, strict=True):
        if truth.abs().max() < 1e-12:
            continue
        assert relative(double, truth) < 1e-10
        assert relative(single, truth) < 1e-4


def test_witness_is_the_difference_of_means() -> None:
    t, x, y = torch.randn(5, 3), torch.randn(7, 3), torch.randn(4, 3)
    kernel = gaussian(1.0) + energy()
    expected = kernel_matrix(t, x, kernel).mean(1) - kernel_matrix(t, y, kernel).mean(1)
    for impl in IMPLS:
        torch.testing.assert_close(witness(t, x, y, kernel, impl=impl), expected)


def test_kernel_values_are_checked() -> None:
    for make, error, words in (
        (lambda: gaussian(0.0), ValueError, "bandwidths got 0.0, wants positive numbers"),
        (lambda: gaussian([]), ValueError, "wants at least one number"),
        (lambda: gaussian("1"), ValueError, "bandwidths got '1'"),
        (lambda: gaussian([1.0, "a"]), ValueError, "bandwidths got 'a'"),
        (lambda: gaussian([1.0], [1.0, 2.0]), ValueError, "weights got 2, wants 1"),
        (lambda: gaussian(torch.tensor([1])), TypeError, "bandwidths got torch.int64"),
        (lambda: gaussian(torch.ones(2, 2)), ValueError, r"bandwidths got shape \(2, 2\)"),
        (lambda: energy(2.5), ValueError, "beta got 2.5"),
        (lambda: polynomial(2.0), TypeError, "degree got float"),
        (lambda: polynomial(0), ValueError, "degree got 0"),
        (lambda: gaussian(1.0) + 1, TypeError, "unsupported operand"),
        (lambda: gaussian(1.0) * "2", TypeError, "can't multiply|unsupported operand"),
    ):
        with pytest.raises(error, match=words):
            make()
    with pytest.raises(NotImplementedError, match="process_group is not offered yet"):
        mmd2(torch.zeros(2, 1), torch.zeros(2, 1), linear(), process_group="default")
    for points in ((torch.zeros(1, 3), torch.zeros(4, 3)), (torch.zeros(4, 3), torch.zeros(1, 3))):
        with pytest.raises(ValueError, match=r"got 1 sample, wants at least 2: the unbiased estimator averages over pairs"):
            mmd2(*points, gaussian(1.0))
        assert mmd2(*points, gaussian(1.0), estimator="biased") == 0


def test_median_bandwidth() -> None:
    x, y = torch.randn(30, 4), torch.randn(21, 4) + 2
    pooled = torch.cat([x, y]).double().numpy()
    apart = [np.linalg.norm(a - b) for i, a in enumerate(pooled) for b in pooled[:i]]
    assert median_bandwidth(x, y).item() == pytest.approx(np.median(apart), rel=1e-5)
    assert median_bandwidth(x + 1e4, y + 1e4).item() == pytest.approx(np.median(apart), rel=1e-2)
    some = median_bandwidth(x, y, sample=20)
    assert some == median_bandwidth(x, y, sample=20)
    assert some != median_bandwidth(x, y, sample=20, seed=1)
    mmd2(x, y, gaussian(some))
    with pytest.raises(ValueError, match="wants at least 2"):
        median_bandwidth(x[:1], y[:0])


def test_mmd_test() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda n, shift=0.0: torch.randn(n, 2, generator=generator) + shift
    x, y = draw(40), draw(30, 0.8)
    result = mmd_test(x, y, gaussian(1.0), permutations=199)
    assert result.statistic == pytest.approx(mmd2(x, y, gaussian(1.0)).item(), abs=1e-6)
    assert result.p_value == 1 / 200
    again = mmd_test(x, y, gaussian(1.0), 199, torch.Generator().manual_seed(0))
    assert again == result
    null = [mmd_test(draw(20), draw(20), gaussian(1.0), permutations=99).p_value for _ in range(60)]
    assert 0.3 < np.mean(null) < 0.7
    assert np.mean(np.array(null) <= 0.1) < 0.25
    assert mmd_test(x, x.clone(), linear() + energy(), permutations=9).p_value > 0.5
    with pytest.raises(ValueError, match="wants at least 2, 2 and 1"):
        mmd_test(x[:1], y, gaussian(1.0))


GROWTH = """
import torch
from gancore.kernels import gaussian, mmd2
def high():
    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024
torch.set_num_threads(1)
def call(n, d=20):
    x, y = torch.randn(n, d).requires_grad_(), torch.randn(n, d)
    before = high()
    mmd2(x, y, gaussian([1.0, 2.0]), impl="native").backward()
    return high() - before
call(64)
print(call(5000))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process's memory from /proc")
def test_memory_does_not_grow_with_the_matrix() -> None:
    """One matrix of 5,000 x 5,000 takes 95 MB; samples and gradients take 2."""
    place("native")
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 20
