"""KID: the formula written out, subsets given and drawn, and the absence of bias."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gancore.kernels import _native, mmd2
from gancore.metrics import kid, polynomial_mmd2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(x, y):
    def k(a, b):
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_is_the_formula():
    x, y = normal(7, 5), normal(6, 5, seed=1) + 0.5
    assert polynomial_mmd2(x, y) == pytest.approx(by_hand(x, y), rel=1e-12)
    assert kid(x, y, subsets=None) == pytest.approx((by_hand(x, y), 0.0), rel=1e-12)


def in_float64(x, y):
    """The formula through whole matrices, of samples of any type."""
    x, y = x.double(), y.double()
    k = {name: (a @ b.T / x.shape[1] + 1) ** 3 for name, a, b in (("xx", x, x), ("yy", y, y), ("xy", x, y))}
    within = [(k[n].sum() - k[n].trace()) / (len(k[n]) * (len(k[n]) - 1)) for n in ("xx", "yy")]
    return float(within[0] + within[1] - 2 * k["xy"].mean())


def test_many_rows_give_the_same_as_whole_matrices():
    x, y = normal(700, 5), normal(2300, 5, seed=1)
    assert polynomial_mmd2(x, y) == pytest.approx(in_float64(x, y), rel=1e-10)


@pytest.mark.parametrize("impl", ["reference", "native"])
def test_float32_and_half_features_agree_with_float64_on_the_same_subsets(impl, monkeypatch):
    if impl == "native" and _native.missing(torch.device("cpu")):
        pytest.skip("the native library is not built")
    monkeypatch.setitem(kid.__globals__, "mmd2", functools.partial(mmd2, impl=impl))
    x, y = normal(900, 256).relu(), (normal(800, 256, seed=1) + 0.1).relu()
    draw = torch.Generator().manual_seed(3)
    sizes = ((400, 400), (300, 500), (500, 200))
    pairs = [tuple(torch.randint(most, (n,), generator=draw) for most, n in zip((900, 800), size, strict=True)) for size in sizes]
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(dtype), y.to(dtype)
        parts = torch.tensor([in_float64(a[i], b[j]) for i, j in pairs])
        wanted = (float(parts.mean()), float(parts.std(correction=0)))
        assert kid(a, b, subsets=pairs) == pytest.approx(wanted, rel=0, abs=1e-6)
        assert kid(a, b, subsets=None).mean == pytest.approx(in_float64(a, b), rel=0, abs=1e-6)


MEMORY = """
import torch
from pathlib import Path
from gancore.metrics import kid
torch.set_num_threads(1)
x, y = torch.rand(2, 10_000, 2048)
kid(x[:300], y[:300], subsets=1, subset_size=200)  # what loads at a first call

def resident(key):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))

Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = resident("VmRSS")
kid(x, y, subsets=2, subset_size=1000)
print(1024 * (resident("VmHWM") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak")
@pytest.mark.skipif(_native.missing(torch.device("cpu")) is not None, reason="the native library is not built")
def test_memory_is_that_of_one_pair_of_subsets():
    """10,000 x 2,048 features, blocks of 1,000: two buffers of 8.2 MB and a few rows of products, 20 MB with all else. Whole
    float64 features would take 328 MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) <= 20e6


def test_given_subsets():
    x, y = normal(30, 5), normal(40, 5, seed=1) + 0.5
    pairs = [(torch.arange(5), torch.arange(10, 17)), (torch.tensor([3, 29, 4]), torch.tensor([39, 0]))]
    parts = torch.tensor([by_hand(x[i], y[j]) for i, j in pairs])
    found = kid(x, y, subsets=pairs)
    assert found == pytest.approx((float(parts.mean()), float(parts.std(correction=0))), rel=1e-5)


def test_drawn_subsets_are_seeded_and_without_repetition():
    x, y = normal(30, 5), normal(40, 5, seed=1) + 0.5
    assert kid(x, y, subsets=5, subset_size=10) == kid(x, y, subsets=5, subset_size=10)
    assert kid(x, y, subsets=5, subset_size=10) != kid(x, y, subsets=5, subset_size=10, seed=1)
    assert kid(x, y[:30], subsets=3, subset_size=30) == pytest.approx((by_hand(x, y[:30]), 0.0), abs=1e-10)


def test_unbiased():
    values = torch.tensor([polynomial_mmd2(normal(8, 4, seed=2 * s), normal(8, 4, seed=2 * s + 1)) for s in range(600)])
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 3 * error
    # The biased estimate, whose diagonal counts, is nowhere near: this test can tell them apart.
    diagonal = float(((normal(4000, 4).square().sum(1) / 4 + 1) ** 3).mean())
    assert 2 * (diagonal - 1) / 8 > 10 * error


def test_sees_a_shift_and_float32_agrees():
    x, y = normal(300, 16), normal(300, 16, seed=1) + 1
    far = kid(x, y, subsets=10, subset_size=100)
    near = kid(x, normal(300, 16, seed=2), subsets=10, subset_size=100)
    assert far.mean > 20 * abs(near.mean)
    assert kid(x.float(), y.float(), subsets=10, subset_size=100) == pytest.approx(far, rel=1e-6)


def test_bad_input_is_named():
    x, y = normal(9, 4), normal(8, 4)
    for arguments, message in [
        ({}, r"subset_size: wants 2 to 8 \(x has 9 samples, y has 8\), got 1000"),
        ({"subsets": 0, "subset_size": 4}, "subsets: wants at least 1, got 0"),
        ({"subsets": []}, "subsets: wants at least one pair"),
        ({"subsets": [(torch.arange(3), torch.arange(9))]}, r"subsets\[0\]: wants indices from 0 to 7 into y, got 0 to 8"),
        ({"subsets": [(torch.arange(1), torch.arange(8))]}, r"subsets\[0\]: wants at least 2 integer indices into x"),
    ]:
        with pytest.raises(ValueError, match=message):
            kid(x, y, **arguments)
    with pytest.raises(ValueError, match="y: wants 4 features"):
        kid(x, normal(8, 5))
