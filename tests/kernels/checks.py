"""Comparisons that the operator tests are built on; test_checks.py tests them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Largest relative error where nothing is known of plain PyTorch's error; low precision is always held against that.
BOUNDS = {torch.float64: 1e-11, torch.float32: 3e-6}
TIMES = 3.0


# A truth below this is zero: what is left of samples of order one, in float64, where all cancels.
ZERO = 1e-14


def relative(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in the Euclidean norm; where expected is all zero, |actual|."""
    a, e = actual.detach().double().flatten(), expected.detach().double().flatten()
    size = float(e.norm())
    return float((a - e).norm()) / (size if size > 0 else 1.0)


def assert_same_bits(actual: Tensor, expected: Tensor, what: str) -> None:
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} instead of {expected.dtype}"
    assert torch.equal(actual.nan_to_num(7e7), expected.nan_to_num(7e7)), f"{what}: not the same bits"
    assert torch.equal(actual.isnan(), expected.isnan()), f"{what}: not the same NaN"


def assert_same_specials(actual: Tensor, expected: Tensor, what: str) -> None:
    """NaN and infinities at the same places, of the same sign."""
    assert torch.equal(actual.isnan(), expected.isnan()), f"{what}: NaN at other places"
    assert torch.equal(actual.isposinf(), expected.isposinf()), f"{what}: inf at other places"
    assert torch.equal(actual.isneginf(), expected.isneginf()), f"{what}: -inf at other places"


def assert_close(actual: Tensor, expected: Tensor, what: str, plain: Tensor | None = None) -> None:
    """`actual` is as right as it can be: `expected` is the float64 truth, `plain` what plain PyTorch gives in the precision of
    `actual`.

    Bounded are the relative error, the worst element against the root mean square, the mean signed error, and the direction.
    """
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}"
    assert_same_specials(actual.detach().double(), expected.detach().double(), what)
    if expected.numel() == 0:
        return
    finite = expected.isfinite()
    a, e = actual.detach().double()[finite], expected.detach().double()[finite]
    if e.numel() == 0:
        return
    e = e if float(e.abs().max()) > ZERO else torch.zeros_like(e)
    bound = BOUNDS.get(actual.dtype, 0.0)
    if plain is not None:
        assert actual.dtype == plain.dtype, f"{what}: {actual.dtype} instead of {plain.dtype}"
        # One rounding unit: on few elements plain PyTorch may happen to be exact.
        bound = max(bound, TIMES * relative(plain[finite], e), torch.finfo(actual.dtype).eps)
    assert bound > 0, f"{what}: nothing to hold {actual.dtype} against"
    error = relative(a, e)
    assert error <= bound, f"{what}: relative error {error:.2e}, at most {bound:.2e}"
    rms = float(e.square().mean().sqrt()) if e.any() else 1.0
    worst = float((a - e).abs().max()) / rms
    assert worst <= 10 * bound * max(1.0, float(e.abs().max()) / rms), f"{what}: worst element off by {worst:.2e} of the rms"
    drift = float((a - e).mean().abs()) / rms
    assert drift <= bound, f"{what}: mean error {drift:.2e} of the rms"
    if e.any():
        cosine = float(torch.dot(a, e) / (a.norm() * e.norm()).clamp_min(1e-300))
        assert 1 - cosine <= bound, f"{what}: direction off, cosine {cosine}"


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _directions(like: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Fixed random tensors of magnitudes in [0.5, 1.5], with the shapes and types of `like`."""
    g = Generator().manual_seed(seed)
    draws = [torch.rand(t.shape, generator=g, dtype=torch.float64) + 0.5 for t in like]
    signs = [torch.randint(0, 2, t.shape, generator=g) * 2 - 1 for t in like]
    return [(d * s).to(t) for d, s, t in zip(draws, signs, like, strict=True)]


def leaves_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, of the same layout, as leaves that require a gradient where they are floating."""
    return {n: t.detach().requires_grad_(t.is_floating_point()) for n, t in tensors.items()}


def derivatives(
    fn: Callable[..., Any], tensors: Mapping[str, Tensor], options: Mapping[str, Any], order: int = 2
) -> dict[str, Tensor]:
    """Outputs and derivatives up to `order`, by name: y0, d_x, dd_x, ..., each a contraction with fixed random directions.

    Each order differentiates the sum of <gradient, direction> and half the squared gradients, which is what R1 asks for; from
    the second on also in the gradient that was fed in, under the name `seed0`.
    """
    leaves = leaves_of(tensors)
    ys = outputs_of(fn(**leaves, **options))
    found = {f"y{i}": y.detach() for i, y in enumerate(ys)}
    seeds = {f"seed{i}": s.requires_grad_() for i, s in enumerate(_directions(ys, 1))}
    scalar = sum((y * s).sum() for y, s in zip(ys, seeds.values(), strict=True))
    wanted = {n: t for n, t in leaves.items() if t.requires_grad}
    for k in range(1, order + 1):
        grads = torch.autograd.grad(
            scalar, list(wanted.values()), create_graph=k < order, allow_unused=True, materialize_grads=True
        )
        found.update({f"{'d' * k}_{n}": g.detach() for n, g in zip(wanted, grads, strict=True)})
        scalar = sum((g * v).sum() + g.square().sum() / 2 for g, v in zip(grads, _directions(grads, k + 1), strict=True))
        wanted = {**wanted, **seeds}
        if not scalar.requires_grad:
            break
    return found


def assert_agrees(
    fn: Callable[..., Any],
    reference: Callable[..., Any],
    tensors: Mapping[str, Tensor],
    options: Mapping[str, Any],
    order: int,
    what: str,
) -> None:
    """Outputs and derivatives of `fn` on `tensors` against the reference in float64, and against its error in their own
    precision."""
    found = derivatives(fn, tensors, options, order)
    double = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
    truth, plain = (derivatives(reference, t, options, order) for t in (double, tensors))
    for name, expected in truth.items():
        assert name in found, f"{what}: {name} is missing"
        assert_close(found[name], expected, f"{what}: {name}", plain[name])


class Calls(TorchDispatchMode):
    """Records calls of operators in the namespace gancore, and of the library's derivative of a convolution, with arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "gancore" or func is torch.ops.aten.convolution_backward.default:
            self.seen.append((func, args))
        return func(*args, **(kwargs or {}))


def weight_gradients(
    fn: Callable[..., Any], tensors: Mapping[str, Tensor], options: Mapping[str, Any], inputs: Sequence[str], op: str
) -> tuple[int, int]:
    """How often `op` ran for a gradient in `inputs` alone, and for the gradient of that gradient's square in all tensors.

    The library's derivative counts where it is asked for that of the weight.
    """
    leaves = leaves_of(tensors)
    counts = []
    wanted = [leaves[name] for name in inputs]
    scalar = sum(y.square().sum() for y in outputs_of(fn(**leaves, **options)))
    for targets in (wanted, list(leaves.values())):
        with Calls() as calls:
            grads = torch.autograd.grad(scalar, targets, create_graph=targets is wanted, allow_unused=True)
        formed = [func._schema.name == op or (func.namespace == "aten" and args[-1][1]) for func, args in calls.seen]
        counts.append(sum(formed))
        scalar = sum(g.square().sum() for g in grads if g is not None)
    return counts[0], counts[1]
