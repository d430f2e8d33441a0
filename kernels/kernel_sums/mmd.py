"""Squared maximum mean discrepancy: four estimators, weights, one visit to each pair."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gancore.kernels import _check, _dispatch
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.kernel_sums import device_ahead, reference
from gancore.kernels.kernel_sums import kernel as kernels
from gancore.kernels.kernel_sums.form import PARAMS, Form, U, V, X, Y
from gancore.kernels.kernel_sums.kernel import DOT, SQUARED, Kernel, Packed, pack
from gancore.kernels.kernel_sums.operators import form_of
from gancore.kernels.kernel_sums.sums import (
    PRECISIONS,
    SIDES,
    bench_kernels,
    checked,
    matrix_precision,
    other_kernel,
    points,
    shape_class,
)

ESTIMATORS = ("unbiased", "biased", "linear", "block")


def _wanted(x: Tensor, y: Tensor | None, u: Tensor, v: Tensor | None, params: Tensor) -> int:
    if not torch.is_grad_enabled():
        return 0
    pairs = zip((X, Y, U, V, PARAMS), (x, y, u, v, params), strict=True)
    return sum(bit for bit, t in pairs if t is not None and t.requires_grad)


def _share(weights: Tensor | None, points: Tensor, name: str) -> Tensor:
    """Weights (N,) of samples as a column, of float64, in which means are formed; ones by default."""
    if weights is None:
        return points.new_ones(len(points), 1)
    _check.floating("mmd2", name, weights, points.device)
    if weights.shape != (len(points),):
        raise ValueError(f"mmd2: {name} got shape {tuple(weights.shape)}, wants ({len(points)},), one for each sample")
    return weights.double()[:, None]


class _Pairs(NamedTuple):
    """Which pairs an estimator averages over: within blocks (0: all), and whether a point meets itself, or its partner in y."""

    block: int
    diagonal: bool
    partners: bool


def _pairs(estimator: str, block: int | None, n: int, m: int) -> _Pairs:
    if block is not None and estimator != "block":
        raise ValueError(f"mmd2: block got {block} with estimator {estimator!r}, wants None, or estimator='block'")
    if estimator == "biased":
        return _Pairs(0, True, True)
    if estimator == "unbiased":
        for name, count in (("x", n), ("y", m)):
            if count < 2:
                raise ValueError(
                    f"mmd2: {name} got {count} sample{'s' * (count != 1)}, wants at least 2: the unbiased estimator averages over "
                    f"pairs of different samples, and there are none"
                )
        return _Pairs(0, False, True)
    if n != m:
        raise ValueError(f"mmd2: y got {m} samples, wants {n}, as many as x: estimator {estimator!r} takes them in pairs")
    if block is None:
        block = 2 if estimator == "linear" else max(2, math.isqrt(n))
    if isinstance(block, bool) or not isinstance(block, int):
        raise TypeError(f"mmd2: block got {type(block).__name__}, wants an int")
    if not 2 <= block <= n:
        raise ValueError(f"mmd2: block got {block}, wants 2 to {n}, the number of samples")
    return _Pairs(block, False, estimator == "block")


def _mass(a: Tensor, b: Tensor, pairs: _Pairs, same: bool, weighted: bool) -> Tensor | float:
    """The sum of the weights a_i b_j over the pairs that count, float64; of no weights, their number."""
    alone = (same and not pairs.diagonal) or not pairs.partners
    if not weighted:
        return len(a) * ((pairs.block or len(b)) - alone)
    a, b = (t[:, 0].double().view(-1, pairs.block or len(t)) if len(t) else t.double().T for t in (a, b))
    total = (a.sum(1) * b.sum(1)).sum()
    return total - (a * b).sum() if alone else total


def _matrix_sum(packed: Packed, x: Tensor, y: Tensor, a: Tensor, b: Tensor, pairs: _Pairs, same: bool) -> Tensor:
    """The sum of a_i b_j k over the pairs that count, through the matrix, float64."""
    size = pairs.block or max(len(x), len(y))
    parts = zip(x.split(size), y.split(size), a.split(size), b.split(size), strict=True)
    total = x.new_zeros((), dtype=torch.float64)
    for p, q, u, v in parts:
        k = reference.values(packed, reference.distances(packed.metric, p, q, same))
        if same and not pairs.diagonal:
            k = k * (1 - torch.eye(len(p), dtype=k.dtype, device=k.device))
        total = total + (u.double() * (k.double() @ v.double())).sum()
    return total


def _partner_mean(packed: Packed, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The mean of k(x_i, y_j) over neighbours i and j, i of even and j of odd index or the reverse; of k(x_i, x_j) where y is x."""
    x, y, a, b = x, y.view(-1, 2, y.shape[1]).flip(1).reshape(y.shape), a[:, 0], b.view(-1, 2).flip(1).reshape(-1)
    if packed.metric == DOT:
        d = (x * y).sum(1)
    else:
        d = (x - y).square().sum(1) if packed.metric == SQUARED else (x - y).abs().sum(1)
    share = a.double() * b.double()
    return (share * reference.values(packed, d).double()).sum() / share.sum()


def mmd2_reference(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    estimator: str = "unbiased",
    block: int | None = None,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
) -> Tensor:
    """The same through kernel matrices: any order of derivative, quadratic memory."""
    return mmd2(x, y, kernel, estimator=estimator, block=block, x_weights=x_weights, y_weights=y_weights, impl="reference")


@ranged
def mmd2(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    *,
    estimator: str = "unbiased",
    block: int | None = None,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    precision: str = "high",
    process_group: object | None = None,
    impl: str = "auto",
) -> Tensor:
    """Squared maximum mean discrepancy of samples x (N, D) and y (M, D): mean k(x, x') + mean k(y, y') - 2 mean k(x, y), scalar.

    Gretton et al. 2012 (JMLR 13): "biased" averages over all pairs (eq. 5) and is never negative; "unbiased" leaves out pairs of a
    sample with itself (eq. 3) and may be; "block" (Zaremba et al. 2013, arXiv:1307.1954) does so within blocks of `block`
    consecutive samples, by default sqrt(N), leaving out what fills no block; "linear" (section 6) takes N / 2 pairs of neighbours.
    The last two want N = M.
    x_weights, y_weights: (N,) and (M,), of any sum but 0: means are weighted by w_i w_j.
    precision, impl, types and derivatives as of `kernel_dot`; second derivatives by weights are exact too. Only "reference"
    stores an N x M matrix: memory beyond the inputs is O((N + M) D). Value and gradient are formed in one visit to each pair.
    process_group: not yet offered.

    Raises ValueError for shapes, too few samples, an unknown estimator, precision or impl; TypeError for wrong types;
    NotImplementedError for a process_group; RuntimeError where an explicit impl cannot run.
    """
    checked("mmd2", kernel)
    _check.one_of("mmd2", "estimator", estimator, ESTIMATORS)
    _check.one_of("mmd2", "precision", precision, PRECISIONS)
    if process_group is not None:
        raise NotImplementedError("mmd2: process_group is not offered yet: pass the samples of one rank, or gather them")
    (p, q), dtype = points("mmd2", x=x, y=y)
    a, b = _share(x_weights, p, "x_weights"), _share(y_weights, q, "y_weights")
    pairs = _pairs(estimator, block, len(p), len(q))
    if pairs.block:
        whole = len(p) // pairs.block * pairs.block
        p, q, a, b = (t[:whole] for t in (p, q, a, b))
    total: Tensor | None = None
    with torch.autocast(p.device.type, enabled=False):
        for packed in pack(kernel, p.shape[1], p.device):
            body = _dispatch.choose(SPEC, impl, x, shape_class(packed, p, pairs.block or len(q)))
            how = matrix_precision(precision, dtype)
            for left, right, u, v, times in ((p, p, a, a, 1), (q, q, b, b, 1), (p, q, a, b, -2)):
                weighted = (x_weights is not None and u is a) or (y_weights is not None and v is b)
                part = _mean(packed, (left, right, u, v), pairs, how, body, weighted) * times
                total = part if total is None else total + part
    assert total is not None
    return total.to(dtype)


def _mean(packed: Packed, sides: tuple[Tensor, ...], pairs: _Pairs, precision: str, body: str, weighted: bool) -> Tensor:
    x, y, u, v = sides
    if not pairs.partners:
        return _partner_mean(packed, x, y, u, v)
    mass = _mass(u, v, pairs, x is y, weighted)
    if body == "reference":
        return _matrix_sum(packed, x, y, u, v, pairs, x is y) / mass
    form = Form(packed.metric, packed.codes, pairs.diagonal, pairs.block, precision, body)
    far, far_weights = (None, None) if x is y else (y, v)
    wanted = _wanted(x, far, u, far_weights, packed.params)
    value: Tensor = form_of(x, far, u, far_weights, packed.params, wanted, *form)[0]
    return value / mass


def _draw(n: int, m: int, d: int, weights: bool = False) -> Callable[[Generator], dict[str, Tensor]]:
    def draw(generator: Generator) -> dict[str, Tensor]:
        found = {"x": torch.randn(n, d, generator=generator, dtype=torch.float64) + 1}
        found["y"] = torch.randn(m, d, generator=generator, dtype=torch.float64)
        if weights:
            found["x_weights"] = torch.rand(n, generator=generator, dtype=torch.float64) + 0.5
            found["y_weights"] = torch.rand(m, generator=generator, dtype=torch.float64) + 0.5
        return found

    return draw


def _samples() -> tuple[Sample, ...]:
    wide = kernels.inverse_multiquadric(1.0)
    gaussians, biased = kernels.gaussian([0.5, 1.0, 2.0]), {"estimator": "biased"}
    return (
        Sample("gaussians", _draw(7, 5, 3), {"kernel": gaussians}),
        Sample("biased, weights", _draw(5, 6, 3, True), {"kernel": gaussians, **biased}),
        Sample("rational quadratic, many features", _draw(6, 7, 20), {"kernel": kernels.rational_quadratic([0.5, 2.0])}),
        Sample("energy, weights", _draw(6, 5, 18, True), {"kernel": kernels.energy()}),
        Sample("laplacian, blocks", _draw(7, 7, 4), {"kernel": kernels.laplacian(2.0), "estimator": "block", "block": 3}),
        Sample("polynomial", _draw(6, 4, 18, True), {"kernel": kernels.polynomial()}),
        Sample("gaussian, blocks, weights", _draw(8, 8, 18, True), {"kernel": kernels.gaussian(4.0), "estimator": "block"}),
        Sample("linear kernel, biased", _draw(4, 5, 3), {"kernel": kernels.linear(), **biased}),
        Sample("sum", _draw(5, 5, 3), {"kernel": kernels.linear() + 0.5 * kernels.laplacian(2.0) + wide}),
    )


SPEC = Spec(
    name="mmd2",
    fn=mmd2,
    reference=mmd2_reference,
    samples=_samples(),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    neighbour=other_kernel,
    batched=("x", "y", "x_weights", "y_weights"),
    bytes_moved=lambda x, y, **options: x.nbytes + y.nbytes,
    library=True,
    mixes=True,
    on_cpu="native",
    bad=(
        Bad({"x": torch.zeros(3)}, ValueError, r"x got shape \(3,\), wants two dimensions"),
        Bad({"y": torch.zeros(4, 2)}, ValueError, "y got 2 features, wants 3"),
        Bad({"x": torch.zeros(1, 3)}, ValueError, "x got 1 sample, wants at least 2"),
        Bad({"kernel": 1.0}, TypeError, "kernel got float"),
        Bad({"estimator": "fast"}, ValueError, "estimator got 'fast', wants one of 'unbiased'"),
        Bad({"estimator": "linear"}, ValueError, "y got 5 samples, wants 7"),
        Bad({"block": 3}, ValueError, "block got 3 with estimator 'unbiased'"),
        Bad({"x_weights": torch.ones(3)}, ValueError, r"x_weights got shape \(3,\), wants \(7,\)"),
        Bad({"precision": "low"}, ValueError, "precision got 'low'"),
    ),
    bench=tuple(
        Bench(f"{name}/{size}", _draw(n, n, d), {"kernel": kernel})
        for name, d, kernel in bench_kernels()
        for size, n in SIDES.items()
    ),
    ahead=device_ahead.of_sums,
)
