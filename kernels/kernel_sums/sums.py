"""Kernel matrices, their products, and the witness function."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from gancore.kernels import _check, _dispatch
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.kernel_sums import device_ahead, reference
from gancore.kernels.kernel_sums import kernel as kernels
from gancore.kernels.kernel_sums.kernel import ABSOLUTE, DOT, SQUARED, Kernel, Packed, pack
from gancore.kernels.kernel_sums.operators import dot_of

PRECISIONS = ("high", "highest", "medium")


def points(op: str, **tensors: Tensor) -> tuple[list[Tensor], torch.dtype]:
    """The tensors (rows, D) as float32 or float64, and the type of the result: what they promote to, float32 under autocast."""
    first_name, first = next(iter(tensors.items()))
    dtype: torch.dtype | None = None
    for name, t in tensors.items():
        _check.floating(op, name, t, None if t is first else first.device)
        if t.ndim != 2:
            raise ValueError(f"{op}: {name} got shape {tuple(t.shape)}, wants two dimensions: samples and features")
        if name != "v" and t.shape[1] != first.shape[1]:
            raise ValueError(f"{op}: {name} got {t.shape[1]} features, wants {first.shape[1]}, as {first_name} has")
        dtype = t.dtype if dtype is None else torch.promote_types(dtype, t.dtype)
    assert dtype is not None
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    found = wide if torch.is_autocast_enabled(first.device.type) else dtype
    return [t.to(wide) for t in tensors.values()], found


def checked(op: str, kernel: Kernel) -> Kernel:
    """The kernel, if it is one."""
    if not isinstance(kernel, Kernel):
        raise TypeError(f"{op}: kernel got {type(kernel).__name__}, wants a kernel such as gaussian(1.0)")
    return kernel


def shape_class(packed: Packed, x: Tensor, m: int) -> Callable[[], str]:
    """The row of the dispatch table: the metric, few features or many, and the size of the matrix that is not stored."""
    name = {SQUARED: "squared", ABSOLUTE: "absolute", DOT: "dot"}[packed.metric]
    return lambda: f"{name}/{'few' if x.shape[1] <= 16 else 'many'}/{_dispatch.size_class(len(x) * m)}"


@ranged
def kernel_matrix(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """The matrix of k(x_i, y_j), (N, M), of samples x (N, D) and y (M, D); derivatives of every order.

    The one function here that stores the matrix. Computed in float32 (float64 for float64), in the type of the inputs, or float32
    under autocast. Raises TypeError and ValueError for inputs that do not fit.
    """
    checked("kernel_matrix", kernel)
    (a, b), dtype = points("kernel_matrix", x=x, y=y)
    with torch.autocast(a.device.type, enabled=False):
        return reference.matrix(a, b, kernel).to(dtype)


def dot_reference(x: Tensor, y: Tensor, v: Tensor, kernel: Kernel) -> Tensor:
    """K(x, y) v through the matrix: any order of derivative, quadratic memory."""
    return kernel_dot(x, y, v, kernel, impl="reference")


def kernel_dot(
    x: Tensor, y: Tensor, v: Tensor, kernel: Kernel, *, precision: str = "high", impl: str = "auto"
) -> Tensor:
    """K(x, y) v, whose row i is sum over j of k(x_i, y_j) v_j; K (N, M) is never stored, forward or backward.

    x: (N, D). y: (M, D). v: (M, E). Returns (N, E) in the type that the inputs promote to; arithmetic, and the result under
    autocast, is float32 (float64 for float64).
    precision: of products of float32 on tensor cores: "highest" float32 throughout, "high" three TF32 products, "medium" TF32 or,
    for 16-bit inputs, bfloat16. CPUs take float32 always.
    impl: "auto", "triton" (no float64), "native" or "reference".

    First and second derivatives by x, y and v are exact, first ones by tensors in the kernel too; others raise NotImplementedError
    where they are asked for. Raises ValueError for shapes, precision or impl that do not fit, TypeError for wrong types,
    RuntimeError where an explicit impl cannot run.
    """
    return _dot("kernel_dot", x, y, v, kernel, precision, impl)


@ranged
def _dot(op: str, x: Tensor, y: Tensor, v: Tensor, kernel: Kernel, precision: str, impl: str) -> Tensor:
    checked(op, kernel)
    _check.one_of(op, "precision", precision, PRECISIONS)
    (a, b, c), dtype = points(op, x=x, y=y, v=v)
    if len(c) != len(b):
        raise ValueError(f"{op}: v got {len(c)} rows, wants {len(b)}, one for each of y")
    total: Tensor | None = None
    for packed in pack(kernel, a.shape[1], a.device):
        body = _dispatch.choose(SPEC, impl, x, shape_class(packed, a, len(b)))
        if body == "reference":
            with torch.autocast(a.device.type, enabled=False):
                part = reference.values(packed, reference.distances(packed.metric, a, b, False)) @ c
        else:
            part = dot_of(a, b, c, packed.params, packed.metric, packed.codes, True, 0, matrix_precision(precision, dtype), body)
        total = part if total is None else total + part
    assert total is not None
    return total.to(dtype)


def matrix_precision(precision: str, dtype: torch.dtype) -> str:
    """"brief" stands for products of bfloat16."""
    return "brief" if precision == "medium" and dtype in (torch.bfloat16, torch.float16) else precision


def witness(t: Tensor, x: Tensor, y: Tensor, kernel: Kernel, *, precision: str = "high", impl: str = "auto") -> Tensor:
    """mean over i of k(t, x_i) - mean over j of k(t, y_j), (T,): where x has more mass than y (Gretton et al. 2012, section 2.3).

    t: (T, D). x: (N, D). y: (M, D). Types, precision, impl, derivatives and errors as of `kernel_dot`.
    """
    (_, p, q), dtype = points("witness", t=t, x=x, y=y)
    pooled = torch.cat([p, q])
    shares = torch.cat([pooled.new_full((n, 1), sign / max(n, 1)) for n, sign in ((len(p), 1), (len(q), -1))])
    return _dot("witness", t, pooled, shares, kernel, precision, impl).squeeze(1).to(dtype)




def _draw(n: int, m: int, d: int, e: int) -> Callable[[Generator], dict[str, Tensor]]:
    def draw(generator: Generator) -> dict[str, Tensor]:
        shapes = {"x": (n, d), "y": (m, d), "v": (m, e)}
        return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}

    return draw


def other_kernel(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with another kernel."""
    other = kernels.laplacian(1.5)
    return {**options, "kernel": kernels.gaussian(0.7) if options["kernel"] == other else other}


def bench_kernels() -> tuple[tuple[str, int, Kernel], ...]:
    """Name, features and kernel of each class that the dispatch table tells apart."""
    mixture = kernels.gaussian([1.0, 2.0, 4.0, 8.0, 16.0])
    return (
        ("squared/few", 2, mixture),
        ("squared/many", 64, mixture),
        ("absolute/few", 2, kernels.laplacian(1.0)),
        ("absolute/many", 64, kernels.laplacian(8.0)),
        ("dot/few", 8, kernels.polynomial()),
        ("dot/many", 64, kernels.polynomial()),
    )


SIDES = {"tiny": 32, "small": 128, "medium": 512, "large": 1024}  # samples a side whose pairs are of that class

SPEC = Spec(
    name="kernel_dot",
    fn=kernel_dot,
    reference=dot_reference,
    samples=(
        Sample("gaussians", _draw(7, 6, 3, 1), {"kernel": kernels.gaussian([0.7, 1.4, 2.8], [1.0, 0.5, 2.0])}),
        Sample("rational quadratic, many features", _draw(5, 9, 21, 1), {"kernel": kernels.rational_quadratic([0.5, 1.0, 4.0])}),
        Sample("gaussian, many columns", _draw(6, 5, 19, 3), {"kernel": kernels.gaussian([3.0, 5.0])}),
        Sample("energy", _draw(5, 7, 18, 2), {"kernel": 2 * kernels.energy()}),
        Sample("two heavy tails", _draw(4, 6, 3, 1), {"kernel": kernels.energy(1.5) + kernels.inverse_multiquadric([1.0, 3.0])}),
        Sample("laplacian", _draw(5, 4, 5, 1), {"kernel": kernels.laplacian([1.0, 4.0])}),
        Sample("polynomial", _draw(6, 4, 17, 2), {"kernel": kernels.polynomial()}),
        Sample("all metrics", _draw(4, 5, 3, 2), {"kernel": kernels.linear() + kernels.laplacian(2.0) + kernels.gaussian(2.0)}),
    ),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    neighbour=other_kernel,
    bytes_moved=lambda x, y, v, **options: x.nbytes + y.nbytes + v.nbytes + len(x) * v.shape[1] * x.element_size(),
    library=True,
    on_cpu="native",
    bad=(
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(3)}, ValueError, r"x got shape \(3,\), wants two dimensions"),
        Bad({"y": torch.zeros(6, 4)}, ValueError, "y got 4 features, wants 3"),
        Bad({"v": torch.zeros(5, 1)}, ValueError, "v got 5 rows, wants 6"),
        Bad({"v": torch.zeros(6, 1, device="meta")}, ValueError, "v got device meta"),
        Bad({"kernel": "rbf"}, TypeError, "kernel got str"),
        Bad({"precision": "low"}, ValueError, "precision got 'low', wants one of 'high'"),
    ),
    bench=tuple(
        Bench(f"{name}/{size}", _draw(n, n, d, 1), {"kernel": kernel})
        for name, d, kernel in bench_kernels()
        for size, n in SIDES.items()
    ),
    ahead=device_ahead.of_products,
)
