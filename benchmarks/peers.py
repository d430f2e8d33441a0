"""What people use or write in place of gancore's MMD, KID and minibatch discrimination; each peer computes just what ours does.

A body takes the tensors of its case and returns a value and its gradient in x (for KID, a value alone). `LABELS` says what each is.
"""

import functools
import operator
import os
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[[Any], Any]
Loss = Callable[[Tensor, Tensor], Tensor]
Result = tuple[Tensor, Tensor | None]

LABELS = {
    "ours": "gancore",
    "closed-compiled": "three blocks, derivative by hand, compiled",
    "single-compiled": "three blocks, one exponential, compiled",
    "blocks-compiled": "three blocks, compiled",
    "blocks-eager": "three blocks, eager",
    "cdist-compiled": "concatenated cdist, compiled",
    "cdist-eager": "concatenated cdist, eager",
    "keops": "KeOps",
    "broadcast-compiled": "broadcast, compiled",
    "broadcast-eager": "broadcast, eager",
    "fidelity": "torch-fidelity",
}


def missing(body: str, device: torch.device) -> str | None:
    """Why this body cannot run here; None if it can."""
    if body == "keops" and not (find_spec("pykeops") and find_spec("keopscore")):
        return 'pykeops is not installed: pip install "gancore[bench]"'
    if body == "fidelity" and not find_spec("torch_fidelity"):
        return 'torch-fidelity is not installed: pip install "gancore[bench]"'
    if body.endswith("-compiled") or (body == "keops" and device.type == "cpu"):
        from gancore.doctor import findings

        compiler = next(f for f in findings() if f.part == "C++ compiler")
        if device.type == "cpu" and not compiler.ok:
            return f"{compiler.found}; {compiler.remedy}"
    return None


# -- kernels, of squared distances or of inner products: tensors and KeOps' symbols alike ------------------------------------


def gaussian(bandwidths: Sequence[float]) -> Kernel:
    """Sum over s of exp(-d / (2 s^2))."""
    return lambda d: functools.reduce(operator.add, [(d * (-0.5 / s**2)).exp() for s in bandwidths])


def squared_gaussian(bandwidths: Sequence[float]) -> Kernel:
    """The same for bandwidths that double from one to the next: one exponential, the others by squaring it."""

    def kernel(d: Any) -> Any:
        e = (d * (-0.5 / max(bandwidths) ** 2)).exp()
        total = e
        for _ in bandwidths[1:]:
            # As e * e each squaring doubles the expression that inductor traces: minutes of compiling.
            e = e.square().square()
            total = total + e
        return total

    return kernel


def rational_quadratic(alphas: Sequence[float]) -> Kernel:
    """Sum over a of (1 + d / (2 a))^-a, which is exp(-a log(1 + d / (2 a))): what compiles to vector code."""
    return lambda d: functools.reduce(operator.add, [((d * (0.5 / a)).log1p() * -a).exp() for a in alphas])


def polynomial(features: int, degree: int = 3) -> Kernel:
    """(t / D + 1)^degree of an inner product t."""
    return lambda t: (t / features + 1) ** degree


# -- losses ------------------------------------------------------------------------------------------------------------------


def concatenated(kernel: Kernel) -> Loss:
    """One matrix of all against all, its four blocks averaged: the form of most repositories."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        z = torch.cat([x, y])
        k, n = kernel(torch.cdist(z, z) ** 2), len(x)
        return k[:n, :n].mean() + k[n:, n:].mean() - k[:n, n:].mean() - k[n:, :n].mean()

    return loss


def three_blocks(kernel: Kernel, of: str = "distance") -> Loss:
    """The cross block once, distances as |x|^2 + |y|^2 - 2 x.y."""

    def block(a: Tensor, b: Tensor) -> Tensor:
        dots = a @ b.T
        return kernel(dots if of == "product" else a.square().sum(1)[:, None] + b.square().sum(1) - 2 * dots).mean()

    return lambda x, y: block(x, x) + block(y, y) - 2 * block(x, y)


def closed_gaussian(bandwidths: Sequence[float], single: bool) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient in x without autograd: with w = sum of exp(-d / (2 s^2)) / s^2 the derivative of k in x is w (y - x).

    single: bandwidths double from one to the next, and one exponential serves them all.
    """
    ordered = sorted(bandwidths, reverse=True)

    def terms(d: Tensor) -> list[Tensor]:
        if not single:
            return [(d * (-0.5 / s**2)).exp() for s in ordered]
        found = [(d * (-0.5 / ordered[0] ** 2)).exp()]
        for _ in ordered[1:]:
            found.append(found[-1].square().square())
        return found

    def block(a: Tensor, b: Tensor) -> list[Tensor]:
        return terms(a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T))

    def pull(es: list[Tensor], a: Tensor, b: Tensor) -> Tensor:
        w = functools.reduce(operator.add, [e * s**-2 for e, s in zip(es, ordered, strict=True)])
        return (w @ b - w.sum(1, keepdim=True) * a) / (len(a) * len(b))

    def total(es: list[Tensor]) -> Tensor:
        return functools.reduce(operator.add, es).mean()

    def value_and_gradient(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        xx, xy = block(x, x), block(x, y)
        return total(xx) + total(block(y, y)) - 2 * total(xy), 2 * (pull(xx, x, x) - pull(xy, x, y))

    return value_and_gradient


def keops(kernel: Kernel) -> Loss:
    """Three sums of KeOps' lazy matrices; compiled at their first use, into the cache folder of gancore."""
    LazyTensor = _keops()

    def block(a: Tensor, b: Tensor) -> Tensor:
        distance = ((LazyTensor(a[:, None, :]) - LazyTensor(b[None, :, :])) ** 2).sum(-1)
        return kernel(distance).sum(1).sum() / (len(a) * len(b))

    return lambda x, y: block(x, x) + block(y, y) - 2 * block(x, y)


# -- of operators ------------------------------------------------------------------------------------------------------------


def unfit(body: str, operator_: str, kernel: Any, dtype: str, order: int) -> str | None:
    """Why KeOps or torch-fidelity has nothing to compare with at a point of mmd2 or kernel_dot; None if it has."""
    from gancore.kernels import polynomial
    from gancore.kernels.kernel_sums.kernel import GAUSSIAN

    if dtype != "float32":
        return f"has no {dtype}"
    if body == "fidelity":
        if operator_ != "mmd2" or kernel != polynomial():
            return "computes MMD under KID's polynomial kernel, degree 3"
        return "computes no gradient" if order else None
    return None if all(term.kind == GAUSSIAN for term in kernel.terms) else "its formula is written here for Gaussian kernels alone"


def of_operator(body: str, operator_: str) -> Callable[..., Tensor]:
    """mmd2 (unbiased, as many samples of x as of y for torch-fidelity) or kernel_dot by another package."""
    if body == "fidelity":
        metric = fidelity()
        options = {"kid_subsets": 1, "rng_seed": 0, "verbose": False}  # one subset of all samples: the whole MMD
        return lambda x, y, kernel: torch.tensor(
            metric(x, y, kid_subset_size=len(x), **options)["kernel_inception_distance_mean"], dtype=x.dtype, device=x.device
        )
    LazyTensor = _keops()

    def matrix(x: Tensor, y: Tensor, kernel: Any) -> Any:
        distance = ((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1)
        return functools.reduce(operator.add, [t.weight * (distance * (-0.5 / t.a**2)).exp() for t in kernel.terms])

    def mean(x: Tensor, y: Tensor, kernel: Any, own: bool) -> Tensor:
        total = matrix(x, y, kernel).sum(1).sum()
        if not own:
            return total / (len(x) * len(y))
        # Without the pairs of a sample with itself, whose kernel is the sum of the weights.
        return (total / len(x) - sum(t.weight for t in kernel.terms)) / (len(x) - 1)

    if operator_ == "kernel_dot":
        return lambda x, y, v, kernel: matrix(x, y, kernel) @ v
    return lambda x, y, kernel: mean(x, x, kernel, True) + mean(y, y, kernel, True) - 2 * mean(x, y, kernel, False)


def broadcast(x: Tensor) -> Tensor:
    """Minibatch discrimination through the tensor of all differences (N, N, B, C)."""
    return (x[:, None] - x[None]).abs().sum(3).neg().exp().sum(1) - 1


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under torch.compile, for these shapes."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def value_and_gradient(loss: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Result:
    """What a training step needs of a loss."""
    x = x.detach().requires_grad_()
    value = loss(x, *others)
    return value.detach(), torch.autograd.grad(value, x)[0]


# -- other packages ----------------------------------------------------------------------------------------------------------


@functools.cache
def _keops() -> Any:
    from gancore.data.cache import folder

    # KeOps puts its cache in the home folder whatever XDG_CACHE_HOME says.
    path = Path(os.environ.setdefault("KEOPS_CACHE_FOLDER", str(folder() / "keops")))
    path.mkdir(parents=True, exist_ok=True)
    import pykeops

    pykeops.set_verbose(False)
    from pykeops.torch import LazyTensor

    return LazyTensor


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")


@functools.cache
def fidelity() -> Callable[..., dict[str, float]]:
    """torch-fidelity's KID on features, which is plain numpy.

    The package imports torchvision, and a torchvision built for another device than torch is stops there, since the schemas of its
    compiled operators are absent. KID uses none of them: they are declared.
    """
    while True:
        try:
            from torch_fidelity.metric_kid import kid_features_to_metric
        except RuntimeError as error:
            absent = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if absent is None:
                raise
            _DECLARED.define(f"{absent[1]}(Tensor x) -> Tensor")
        else:
            found: Callable[..., dict[str, float]] = kid_features_to_metric
            return found
