"""From each sample's gradient to what its norm costs, in one pass (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3).

    p_n = (|g_n| - c)^2, one-sided the positive part inside; for c = 0 and norm 2 it is |g_n|^2, without a square root

With r = |g|, f the cost of r, and m the derivative of r by g:

    norm 2      m = g / r                         r' = (v - m <m, v>) / r, the derivative of m along v
    norm 1      m = sign(g)                       r' = 0
    norm inf    m = sign(g) / ties, at the largest magnitudes alone, which share it as in torch.amax; r' = 0

    first derivative     dg = dy f'(r) m
    second derivative    d<v, dg>/d dy = f'(r) <m, v>        d<v, dg>/dg = dy (f''(r) <m, v> m + f'(r) r')

At g = 0 the first derivative is 0 and, but for c = 0 in norm 2, the second too. All is a sum over one sample and one pass over it:
a program or thread takes a sample. The norm is kept, so that no derivative adds it up again.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.library import custom_op

from gancore.kernels import _check, _dispatch, _layout, _native, _tiles, _triton
from gancore.kernels._grad import direct, not_offered
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Ahead, Bad, Bench, Sample, Spec
from gancore.kernels._triton import jit, tl

__all__ = ["gradient_norm_penalty"]

MOST, SUM, EUCLID = 0, 1, 2  # the norms inf, 1 and 2 as kernels know them
_NORMS: dict[float, int] = {math.inf: MOST, 1: SUM, 2: EUCLID}


def reference(grad: Tensor, center: float = 1.0, one_sided: bool = False, norm: float = 2) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device."""
    g = grad.to(_layout.wide(grad.dtype))
    g = g.unsqueeze(1) if g.ndim == 1 else g
    dims = tuple(range(1, g.ndim))
    if norm == 2:
        square = g.square().sum(dims)
        if center == 0:
            return square
        # Its derivative at 0 is 0: a critic that is constant there is pushed in no direction. Times 0, so that NaN stays NaN.
        there = square > 0
        size = torch.where(there, torch.where(there, square, 1.0).sqrt(), 0 * square)
    else:
        size = g.abs().sum(dims) if norm == 1 else g.abs().amax(dims)
    off = size - center
    return (off.relu() if one_sided else off).square()


@jit
def _magnitudes(x):  # type: ignore[no-untyped-def]
    # NaN is no number to compare with: for the largest it is set apart.
    return tl.where(x == x, tl.abs(x), 0.0), tl.where(x == x, 0.0, x)


@jit
def _direction(x, length, share, NORM: tl.constexpr):  # type: ignore[no-untyped-def]
    out = x
    if NORM != 2:
        out = tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, x))
    if NORM == 0:
        out = tl.where(tl.abs(x) == length, out * share, 0.0)
    return out


@jit
def _kernel(  # type: ignore[no-untyped-def]
    g_ptr, length_ptr, penalty_ptr, dy_ptr, v_ptr, out_ptr, along_ptr,  # g, v, out (samples, size), the others (samples,) float32
    size, center,
    NORM: tl.constexpr, ORDER: tl.constexpr, ONE_SIDED: tl.constexpr, SQUARE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One sample. SQUARE: norm 2 around 0."""
    k = tl.program_id(0).to(tl.int64)
    first = k * size
    lane = tl.arange(0, BLOCK)
    zeros = tl.zeros([BLOCK], tl.float32)
    if ORDER == 0:
        total = zeros
        most = zeros
        start = k * 0
        while start < size:  # Triton 3.6 interprets no `for` of variable length under numpy 2.4
            x = tl.load(g_ptr + first + start + lane, mask=start + lane < size, other=0.0).to(tl.float32)
            if NORM == 0:
                magnitude, lost = _magnitudes(x)
                most = tl.maximum(most, magnitude)
                total += lost
            elif NORM == 1:
                total += tl.abs(x)
            else:
                total += x * x
            start += BLOCK
        r = tl.sum(total, axis=0)
        if NORM == 0:
            r += tl.max(most, axis=0)
        squared = r
        if NORM == 2:
            r = tl.sqrt_rn(r)
        off = r - center
        if ONE_SIDED:
            off = tl.where(r <= center, 0.0, off)
        cost = off * off
        if SQUARE:
            cost = squared
        tl.store(penalty_ptr + k, cost)
        tl.store(length_ptr + k, r)
    else:
        r = tl.load(length_ptr + k)
        dy = tl.load(dy_ptr + k)
        slope = 2.0 * (r - center)
        curve = r * 0.0 + 2.0
        if ONE_SIDED and not SQUARE:
            slope = tl.where(r <= center, 0.0, slope)
            curve = tl.where(r <= center, 0.0, curve)
        steep = slope
        if NORM == 2:
            steep = tl.where(r == 0.0, 0.0, slope / tl.where(r == 0.0, 1.0, r))
        if SQUARE:
            steep = r * 0.0 + 2.0
        share = r * 0.0 + 1.0
        if NORM == 0:
            total = zeros
            start = k * 0
            while start < size:
                x = tl.load(g_ptr + first + start + lane, mask=start + lane < size, other=0.0).to(tl.float32)
                total += tl.where((tl.abs(x) == r) & (start + lane < size), 1.0, 0.0)
                start += BLOCK
            share = 1.0 / tl.maximum(tl.sum(total, axis=0), 1.0)  # a NaN equals nothing
        by_g = dy * steep
        by_v = r * 0.0
        if ORDER == 2:
            total = zeros
            start = k * 0
            while start < size:
                x = tl.load(g_ptr + first + start + lane, mask=start + lane < size, other=0.0).to(tl.float32)
                v = tl.load(v_ptr + first + start + lane, mask=start + lane < size, other=0.0).to(tl.float32)
                total += _direction(x, r, share, NORM) * v
                start += BLOCK
            along = tl.sum(total, axis=0)
            tl.store(along_ptr + k, steep * along)
            by_g = dy * curve * along
            if NORM == 2:
                by_v = dy * steep
                safe = tl.where(r == 0.0, 1.0, r)
                by_g = tl.where(r == 0.0, 0.0, dy * (curve - steep) * (along / safe) / safe)
                if SQUARE:
                    by_g = r * 0.0
        start = k * 0
        while start < size:
            inside = start + lane < size
            x = tl.load(g_ptr + first + start + lane, mask=inside, other=0.0).to(tl.float32)
            out = by_g * _direction(x, r, share, NORM)
            if ORDER == 2 and NORM == 2:
                out += by_v * tl.load(v_ptr + first + start + lane, mask=inside, other=0.0).to(tl.float32)
            tl.store(out_ptr + first + start + lane, out, mask=inside)
            start += BLOCK


class Form(NamedTuple):
    """The arguments of the operator that are not tensors, as the registered operators take them."""

    center: float
    one_sided: bool
    norm: int
    impl: str


_TILED = _tiles.blocks("gradient_norm_penalty", "order", "norm", "samples", "elements")


def _run(form: Form, tensors: tuple[Tensor, ...], numbers: tuple[Tensor, ...]) -> None:
    """One pass of order len(tensors) - 1 or, without an output among them, 0. tensors: g, then v, then the output, of one layout;
    numbers, one a sample: length, penalty, dy, along."""
    g, *rest = tensors
    length, penalty, dy, along = numbers
    order = len(rest)
    out, v = (*reversed(rest), g, g)[:2]
    size = g.numel() // len(g)
    if form.impl == "native":
        given = ((penalty, None, None, None, None), (None, dy, None, out, None), (None, dy, v, out, along))[order]
        _native.op("gradient_norm_penalty_native")(g, length, *given, order, form.norm, form.center, form.one_sided)
        return
    square = form.norm == EUCLID and form.center == 0
    usual = _tiles.Block(max(16, min(2048, 1 << (size - 1).bit_length())), 4)
    block, warps = _TILED.of(g, usual, order, form.norm, len(g), size)
    _triton.launch(
        _kernel, len(g), g, g, length, penalty, dy, v, out, along, size, form.center,
        NORM=form.norm, ORDER=order, ONE_SIDED=form.one_sided, SQUARE=square, BLOCK=block, num_warps=warps,
    )  # fmt: skip


def _numbers(grad: Tensor) -> Tensor:
    """Fresh memory for one number a sample, in the type computed in."""
    return grad.new_empty(grad.shape[:1], dtype=_layout.wide(grad.dtype))


@custom_op("gancore::gradient_norm_penalty", mutates_args=())
def _forward(grad: Tensor, center: float, one_sided: bool, norm: int, impl: str) -> tuple[Tensor, Tensor]:
    penalty, length = _numbers(grad), _numbers(grad)
    if len(grad):
        g = _layout.matching(grad, _layout.by_sample(torch.empty_like(grad)))
        _run(Form(center, one_sided, norm, impl), (g,), (length, penalty, length, length))
    return penalty, length


@custom_op("gancore::gradient_norm_penalty_grad", mutates_args=())
def _grad(dy: Tensor, grad: Tensor, length: Tensor, center: float, one_sided: bool, norm: int, impl: str) -> Tensor:
    result = torch.empty_like(grad)
    if len(grad) == 0:
        return result
    out = _layout.by_sample(result)
    g = _layout.matching(grad, out)
    _run(Form(center, one_sided, norm, impl), (g, out), (length, length, dy.contiguous(), length))
    return _layout.matching(out, result)


@custom_op("gancore::gradient_norm_penalty_grad2", mutates_args=())
def _grad2(
    v: Tensor, dy: Tensor, grad: Tensor, length: Tensor, center: float, one_sided: bool, norm: int, impl: str
) -> tuple[Tensor, Tensor]:
    result, along = torch.empty_like(grad), _numbers(grad)
    if len(grad) == 0:
        return result, along
    out = _layout.by_sample(result)
    g, v = _layout.matching(grad, out), _layout.matching(v, out)
    _run(Form(center, one_sided, norm, impl), (g, v, out), (length, length, dy.contiguous(), along))
    return _layout.matching(out, result), along


@_forward.register_fake
def _(grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _numbers(grad), _numbers(grad)


@_grad.register_fake
def _(dy: Tensor, grad: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(grad)


@_grad2.register_fake
def _(v: Tensor, dy: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), _numbers(grad)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, *form = inputs
    ctx.form, length = Form(*form), output[1]
    ctx.save_for_backward(grad, length)
    ctx.mark_non_differentiable(length)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, *rest: None) -> tuple[Tensor | None, ...]:
    grad, length = ctx.saved_tensors
    return None if dy is None else _first(dy, grad, length, *ctx.form), *[None] * len(ctx.form)


def _keep_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, grad, length, *form = inputs
    ctx.form = Form(*form)
    ctx.save_for_backward(dy, grad, length)


def _grad_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    by_grad, by_dy = _grad2(v, *ctx.saved_tensors, *ctx.form)
    return by_dy, by_grad, None, *[None] * len(ctx.form)


_value = direct(_forward, _keep, _backward)
_first = direct(_grad, _keep_grad, _grad_backward)
not_offered(_grad2, "the third derivative of gradient_norm_penalty")


@ranged
def gradient_norm_penalty(
    grad: Tensor, center: float = 1.0, one_sided: bool = False, norm: float = 2, *, impl: str = "auto"
) -> Tensor:
    """(|grad_n| - center)^2 for each sample: (N, ...) -> (N,), in one pass and twice differentiable.

    grad: a critic's gradient by its input, of any layout; float32, bfloat16, float16 or float64. one_sided: only norms above the
    center cost. norm: 1, 2 or inf, over all dimensions but the first. With center=0 and norm 2 the result is |grad_n|^2, without a
    square root. Computed and returned in float32 (float64 for float64), also under autocast.

    Where grad_n is 0 the derivative is 0. Third derivatives and torch.func transforms are left to "reference".

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.

    Raises ValueError for samples without elements, an unknown norm or impl, or a bad number, TypeError for a wrong type,
    RuntimeError where an explicit impl cannot run. Gulrajani et al. 2017, arXiv:1704.00028, eq. 3; one-sided Petzka et al. 2018,
    arXiv:1709.08894, eq. 8; with center 0 Mescheder et al. 2018, arXiv:1801.04406, eq. 9.
    """
    name = "gradient_norm_penalty"
    _check.floating(name, "grad", grad)
    center = _check.number(name, "center", center)
    if not isinstance(one_sided, bool):
        raise TypeError(f"{name}: one_sided got {type(one_sided).__name__}, wants True or False")
    if isinstance(norm, bool) or norm not in (1, 2, math.inf):
        raise ValueError(f"{name}: norm got {norm!r}, wants 1, 2 or inf")
    if grad.ndim == 0 or 0 in grad.shape[1:]:
        raise ValueError(f"{name}: grad got shape {tuple(grad.shape)}, wants (N, ...) with at least one element a sample")
    body = _dispatch.choose(SPEC, impl, grad, lambda: _dispatch.size_class(grad.numel()))
    if body == "reference":
        return reference(grad, center, one_sided, norm)
    penalty: Tensor = _value(grad, center, one_sided, _NORMS[norm], body)[0]
    return penalty


def _draw(*shape: int) -> Callable[[Generator], dict[str, Tensor]]:
    """Gradients of which no two magnitudes are equal and none is near 0, the largest first; every other sample is small."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        size = math.prod(shape[1:])
        apart = torch.rand(shape[0], size, generator=generator, dtype=torch.float64).argsort(1).double() + 1
        signs = torch.randint(0, 2, (shape[0], size), generator=generator) * 2 - 1
        small = torch.where(torch.arange(shape[0]) % 2 == 1, 0.05, 1.0).unsqueeze(1)
        return {"grad": (small * signs * (0.5 + apart / size) * (4 / size**0.5)).view(shape)}

    return draw


def _neighbour(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"norm": {2: 1, 1: math.inf}.get(options.get("norm", 2), 2)}


def _ahead() -> tuple[Ahead, ...]:
    numbers = dict.fromkeys(("length_ptr", "penalty_ptr", "dy_ptr", "along_ptr"), "*fp32") | {"size": "i64", "center": "fp32"}
    tensors = ("g_ptr", "v_ptr", "out_ptr")
    base = {"ONE_SIDED": True, "SQUARE": False, "BLOCK": 2048}
    return tuple(
        Ahead(_kernel, dict.fromkeys(tensors, "*bf16") | numbers, {**base, "NORM": n, "ORDER": order}, registers=192, shared=1024)
        for n, order in ((EUCLID, 0), (EUCLID, 1), (EUCLID, 2), (SUM, 2), (MOST, 0), (MOST, 2))
    )


_SIZES = ((16, 3, 8, 8), (32, 3, 16, 16), (32, 3, 64, 64), (64, 3, 128, 128))

SPEC = Spec(
    name="gradient_norm_penalty",
    fn=gradient_norm_penalty,
    reference=reference,
    samples=(
        Sample("images", _draw(4, 3, 5, 2)),
        Sample("norm 1, one-sided", _draw(5, 2, 3), {"norm": 1, "one_sided": True}),
        Sample("largest", _draw(4, 37), {"norm": math.inf}),
        Sample("square", _draw(3, 2, 4, 2), {"center": 0.0}),
        Sample("one-sided", _draw(4, 3, 2), {"center": 0.5, "one_sided": True}),
        Sample("longer than a block", _draw(2, 2051)),
        Sample("largest, square", _draw(3, 5), {"norm": math.inf, "center": 0.0}),
    ),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    neighbour=_neighbour,
    batched=("grad",),
    bytes_moved=lambda grad, **options: grad.nbytes + grad.shape[0] * 4,
    fusible=True,
    bad=(
        Bad({"grad": 3.0}, TypeError, "grad got float"),
        Bad({"grad": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "grad got torch.int64"),
        Bad({"grad": torch.zeros(2, 0)}, ValueError, r"grad got shape \(2, 0\)"),
        Bad({"center": "1"}, TypeError, "center got str"),
        Bad({"center": math.nan}, ValueError, "center got nan"),
        Bad({"one_sided": 1}, TypeError, "one_sided got int"),
        Bad({"norm": 3}, ValueError, "norm got 3, wants 1, 2 or inf"),
    ),
    bench=tuple(Bench(_dispatch.size_class(math.prod(shape)), _draw(*shape)) for shape in _SIZES),
    ahead=_ahead,
)
