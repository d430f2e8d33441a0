"""The work of one comparison: its inputs from a seed, its bodies by name, and the check of a body against float64.

A case is made of plain values, so that another process can make the same one.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from gancore.benchmarks import exact, peers
from gancore.benchmarks.peers import Result
from gancore.core import GancoreError

# The float64 value visits every pair: beyond so many samples, minutes. The gradient is checked on so many rows.
MOST_CHECKED = 40_000
_CHECKED_ROWS = 4096
_SEED = 2020

# In float32 an MMD is a difference of means of k: its error is measured against their size.
VALUE = 1e-5
GRADIENT = 1e-4
KID = 1e-6


class Refused(GancoreError):
    """A body that does not compute what the float64 formula gives; its row is not timed."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    work: "mmd", "kid" or "minibatch". n: samples of x and of y each. d: features, for "minibatch" the B of x (n, B, c).
    kernel: of "mmd", see `_KERNELS`. subsets, size: of "kid". device: where the inputs lie.
    """

    work: str
    n: int
    d: int
    kernel: str = ""
    c: int = 5
    subsets: int = 0
    size: int = 0
    device: str = "cpu"


def body(case: Case, name: str) -> Callable[[], Result]:
    """The call to time; calling it gives (value, gradient in x), for KID (value, None)."""
    run = {"mmd": _mmd, "kid": _kid, "minibatch": _minibatch}[case.work](case, name)
    given = [t.clone() for t in inputs(case)]
    return lambda: run(*given)


@functools.lru_cache(2)
def inputs(case: Case) -> tuple[Tensor, ...]:
    """The tensors of a case, the same in every process: x and y, or x and the weights of its outputs."""
    generator = Generator().manual_seed(_SEED)
    draw = functools.partial(torch.randn, generator=generator)
    if case.work == "minibatch":
        return draw(case.n, case.d, case.c).to(case.device), draw(case.n, case.d).to(case.device)
    if case.work == "kid":
        # Like the features of a network's last pooling: not negative, and far from centred.
        return tuple((draw(case.n, case.d) * 0.4 + shift).relu().to(case.device) for shift in (0.3, 0.32))
    return draw(case.n, case.d).to(case.device), (draw(case.n, case.d) + 0.1).to(case.device)


def check(case: Case, name: str, found: Result) -> dict[str, float]:
    """Errors of a body's result: `value_error` and, where there is a gradient, `gradient_error`. Raises Refused beyond bounds.

    Beyond 4,096 samples the gradient is checked on so many rows of x, beyond 40,000 the value is not.
    """
    value, gradient = found
    rows = min(case.n, _CHECKED_ROWS if case.n <= MOST_CHECKED else 64)
    wanted, slope, scale = _exact(case, rows)
    errors = {} if wanted is None else {"value_error": abs(float(value) - wanted) / scale}
    bounds = {"value_error": KID if case.work == "kid" else VALUE, "gradient_error": GRADIENT}
    if gradient is not None and slope is not None:
        errors["gradient_error"] = float((gradient[:rows].double() - slope).norm() / slope.norm())
    # NaN is no error below a bound.
    wrong = [f"{k.replace('_', ' ')} {e:.2g}, at most {bounds[k]:.2g}" for k, e in errors.items() if not e <= bounds[k]]
    # Another package's precision is its own affair: its error is written down beside ours.
    if wrong and name != "fidelity":
        raise Refused(f"{peers.LABELS[name]}, {describe(case)}: {'; '.join(wrong)} against float64")
    return {k: float(f"{e:.3g}") for k, e in errors.items()}


def describe(case: Case) -> str:
    """The case in words."""
    if case.work == "kid":
        return f"{case.subsets} blocks of {case.size:,} of {case.n:,} x {case.d:,} features"
    if case.work == "minibatch":
        return f"N {case.n}, B {case.d}, C {case.c}"
    return f"2 x {case.n:,} samples, D {case.d:,}, {_KERNELS[case.kernel]}"


def pairs(case: Case) -> list[tuple[Tensor, Tensor]]:
    """The index sets that torch-fidelity draws from its seed, so that every body judges the same blocks."""
    random = np.random.RandomState(_SEED)
    draw = lambda: torch.from_numpy(random.choice(case.n, case.size, replace=False))
    return [(draw(), draw()) for _ in range(case.subsets)]


@functools.lru_cache(2)
def _exact(case: Case, rows: int) -> tuple[float | None, Tensor | None, float]:
    if case.work == "kid":
        x, y = inputs(case)
        return exact.kid(x, y, pairs(case)), None, 1.0
    if case.work == "minibatch":
        total, slope = exact.minibatch(*inputs(case))
        return float(total), slope, math.sqrt(case.n * case.d)
    x, y = inputs(case)
    kernel = _kernel(case, compact=True)
    slope = exact.mmd_gradient(x, y, kernel, _of(case), rows)
    if case.n > MOST_CHECKED:
        return None, slope, 1.0
    value, scale = exact.mmd_value(x, y, kernel, _of(case))
    return value, slope, scale


# -- MMD ---------------------------------------------------------------------------------------------------------------------

_KERNELS = {
    "powers": "five bandwidths powers of two apart",
    "arbitrary": "five arbitrary bandwidths",
    "rational quadratic": "rational quadratic kernel, five exponents",
    "polynomial": "polynomial kernel of degree 3",
}
_ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)


def bandwidths(case: Case) -> Sequence[float]:
    """Five, around the typical distance of two samples, which is sqrt(2 D)."""
    unit = math.sqrt(2 * case.d) / 16
    return [unit * s for s in ((4, 8, 16, 32, 64) if case.kernel == "powers" else (5, 7, 13, 25, 41))]


def _of(case: Case) -> str:
    return "product" if case.kernel == "polynomial" else "distance"


def _kernel(case: Case, compact: bool = False) -> peers.Kernel:
    if case.kernel == "polynomial":
        return peers.polynomial(case.d)
    if case.kernel == "rational quadratic":
        return peers.rational_quadratic(_ALPHAS)
    return (peers.squared_gaussian if compact and case.kernel == "powers" else peers.gaussian)(bandwidths(case))


def _mmd(case: Case, name: str) -> Callable[[Tensor, Tensor], Result]:
    if name == "ours":
        return _ours(case)
    form, _, how = name.partition("-")
    if form == "closed":
        return peers.compiled(peers.closed_gaussian(bandwidths(case), single=case.kernel == "powers"))
    if form == "cdist":
        loss = peers.concatenated(_kernel(case))
    elif form == "keops":
        loss = peers.keops(_kernel(case))
    else:
        loss = peers.three_blocks(_kernel(case, compact=form == "single"), _of(case))
    loss = peers.compiled(loss) if how == "compiled" else loss
    return lambda x, y: peers.value_and_gradient(loss, x, y)


def _ours(case: Case) -> Callable[[Tensor, Tensor], Result]:
    from gancore import kernels

    if case.kernel == "polynomial":
        kernel = kernels.polynomial()
    elif case.kernel == "rational quadratic":
        kernel = kernels.rational_quadratic(_ALPHAS)
    else:
        kernel = kernels.gaussian(bandwidths(case))
    # Block means are the biased estimator; all bodies compute this one.
    loss = lambda x, y: kernels.mmd2(x, y, kernel, estimator="biased")
    return lambda x, y: peers.value_and_gradient(loss, x, y)


# -- KID and minibatch discrimination ----------------------------------------------------------------------------------------


def _kid(case: Case, name: str) -> Callable[[Tensor, Tensor], Result]:
    if name == "fidelity":
        options = {"kid_subsets": case.subsets, "kid_subset_size": case.size, "rng_seed": _SEED, "verbose": False}
        metric = peers.fidelity()
        return lambda x, y: (torch.tensor(metric(x, y, **options)["kernel_inception_distance_mean"]), None)
    from gancore.metrics import kid

    subsets = pairs(case)
    return lambda x, y: (torch.tensor(kid(x, y, subsets=subsets).mean, dtype=torch.float64), None)


def _minibatch(case: Case, name: str) -> Callable[[Tensor, Tensor], Result]:
    from gancore import kernels

    ours: Callable[[Tensor], Tensor] = kernels.minibatch_discrimination
    near = {"ours": ours, "broadcast-eager": peers.broadcast}.get(name) or peers.compiled(peers.broadcast)
    return lambda x, weight: peers.value_and_gradient(lambda t: (near(t) * weight).sum(), x)
