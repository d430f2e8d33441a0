"""How close each sample's features lie to those of the rest of its batch (Salimans et al. 2016, arXiv:1606.03498, section 3.2).

    k_ijb = exp(-|x_ib - x_jb|_1)        o_ib = sum over j != i of k_ijb

With s_ijbc = sign(x_ibc - x_jbc), 0 at equality, and all sums over j != i:

    first derivative     dx_ibc = -sum (dy_ib + dy_jb) k_ijb s_ijbc
    second derivative    for t_ijb = sum over c of s_ijbc (v_ibc - v_jbc):
                         d<v, dx>/d dy_ib = -sum k_ijb t_ijb    d<v, dx>/dx_ibc = sum (dy_ib + dy_jb) k_ijb t_ijb s_ijbc

Every sum belongs to a row i. So a kernel forms the pairs of its rows on the fly, each pair a second time for its other row, and
stores nothing of them: memory is that of x, and no two programs or threads write to one place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.library import custom_op

from gancore.kernels import _check, _dispatch, _native, _tiles, _triton
from gancore.kernels._grad import direct, not_offered
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Ahead, Bad, Bench, Sample, Spec
from gancore.kernels._triton import jit, tl

__all__ = ["minibatch_discrimination"]

PAIRS = 1 << 24  # numbers that the reference holds at once where no graph keeps them


def _computed(x: Tensor) -> Tensor:
    """x in the type that distances are taken in under autocast."""
    low = x.dtype in HALF and torch.is_autocast_enabled(x.device.type)
    return x.float() if low else x


def reference(x: Tensor) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device. Rows are taken a few at a time; a graph keeps all pairs."""
    x = _computed(x)
    wide = x.float() if x.dtype in HALF else x
    step = len(x) if torch.compiler.is_compiling() else max(1, PAIRS // max(1, x.numel()))
    if step >= len(x):
        return _closeness(wide, 0, len(x)).to(x.dtype)
    return torch.cat([_closeness(wide, start, step) for start in range(0, len(x), step)]).to(x.dtype)


def _closeness(x: Tensor, start: int, step: int) -> Tensor:
    """The output for the rows from `start` on, at most `step` of them."""
    distance = (x[start : start + step, None] - x[None]).abs().sum(-1)
    everyone = torch.arange(len(x), device=x.device)
    self = everyone[start : start + step, None] == everyone
    return torch.exp(-distance.masked_fill(self[..., None], torch.inf)).sum(1)


@jit
def _kernel(  # type: ignore[no-untyped-def]
    x_ptr, dy_ptr, v_ptr, out_ptr, tangent_ptr,  # contiguous: x, v (n, kernels, C), dy and tangent (n, kernels)
    n, kernels,
    C: tl.constexpr, ORDER: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """ROWS rows of one kernel against all others, and of their gradient CHUNK channels."""
    pid = tl.program_id(0).to(tl.int64)
    strips = tl.cdiv(n, ROWS)
    b = pid % kernels
    first = pid // kernels // strips * CHUNK
    i = pid // kernels % strips * ROWS + tl.arange(0, ROWS)
    own = first + tl.arange(0, CHUNK)
    at_i = i * kernels + b
    total = tl.zeros([ROWS], tl.float32)
    slope = tl.zeros([ROWS, CHUNK], tl.float32)
    if ORDER > 0:
        dy_i = tl.load(dy_ptr + at_i, mask=i < n, other=0.0).to(tl.float32)
    start = pid * 0
    while start < n:  # Triton 3.6 interprets no `for` of variable length under numpy 2.4
        j = start + tl.arange(0, COLS)
        at_j = j * kernels + b
        distance = tl.zeros([ROWS, COLS], tl.float32)
        tangent = tl.zeros([ROWS, COLS], tl.float32)
        for c in range(C):
            x_i = tl.load(x_ptr + at_i * C + c, mask=i < n, other=0.0).to(tl.float32)
            x_j = tl.load(x_ptr + at_j * C + c, mask=j < n, other=0.0).to(tl.float32)
            d = x_i[:, None] - x_j[None, :]
            distance += tl.abs(d)
            if ORDER == 2:
                v_i = tl.load(v_ptr + at_i * C + c, mask=i < n, other=0.0).to(tl.float32)
                v_j = tl.load(v_ptr + at_j * C + c, mask=j < n, other=0.0).to(tl.float32)
                dv = v_i[:, None] - v_j[None, :]
                tangent += tl.where(d < 0.0, -dv, tl.where(d == 0.0, 0.0, dv))
        pair = (j < n)[None, :] & (i[:, None] != j[None, :])
        k = tl.where(pair, tl.exp(-distance), 0.0)
        if ORDER == 0:
            total += tl.sum(k, axis=1)
        else:
            if ORDER == 2:
                k = -k * tl.where(pair, tangent, 0.0)
                total += tl.sum(k, axis=1)
            dy_j = tl.load(dy_ptr + at_j, mask=j < n, other=0.0).to(tl.float32)
            k = -k * (dy_i[:, None] + dy_j[None, :])
            for m in range(CHUNK):
                channel = tl.minimum(first + m, C - 1)  # what lies beyond C is not stored
                x_i = tl.load(x_ptr + at_i * C + channel, mask=i < n, other=0.0).to(tl.float32)
                x_j = tl.load(x_ptr + at_j * C + channel, mask=j < n, other=0.0).to(tl.float32)
                d = x_i[:, None] - x_j[None, :]
                part = tl.sum(tl.where(d < 0.0, -k, tl.where(d == 0.0, 0.0, k)), axis=1)
                slope += tl.where((own == first + m)[None, :], part[:, None], 0.0)
        start += COLS
    if ORDER == 0:
        tl.store(out_ptr + at_i, total, mask=i < n)
    else:
        tl.store(out_ptr + at_i[:, None] * C + own[None, :], slope, mask=(i < n)[:, None] & (own < C)[None, :])
        if ORDER == 2 and first == 0:
            tl.store(tangent_ptr + at_i, total, mask=i < n)


class _Sizes(NamedTuple):
    rows: int
    cols: int
    warps: int


# Rows and partners at a time, by the order: what registers hold without spilling.
_USUAL = (_Sizes(16, 64, 4), _Sizes(16, 32, 4), _Sizes(16, 32, 4))
_TILED = _tiles.tiled(
    "minibatch_discrimination", ("order", "channels", "kernels", "samples"),
    lambda tile, size: 2 <= tile["rows"] * tile["cols"] // (32 * tile["warps"]) <= 8,
    rows=(8, 16, 32), cols=(16, 32, 64, 128), warps=(2, 4, 8),
)  # fmt: skip


def _constants(channels: int, order: int, tile: _Sizes) -> dict[str, int]:
    """Distances take all channels, a gradient CHUNK."""
    chunk = min(1 << (channels - 1).bit_length(), 16) if order else 1
    return {"C": channels, "ORDER": order, "ROWS": tile.rows, "COLS": tile.cols, "CHUNK": chunk}


def _run(impl: str, x: Tensor, *gradients: Tensor) -> tuple[Tensor, Tensor]:
    """One pass of order len(gradients): its result, and of order 2 also d<v, dx>/d dy, else an empty tensor."""
    n, kernels, channels = x.shape
    order = len(gradients)
    out = x.new_empty(x.shape if order else (n, kernels))
    tangent = x.new_empty((n, kernels) if order == 2 else 0)
    if x.numel() == 0:
        return out.fill_(n - 1), tangent.zero_()
    tensors = [t.contiguous() for t in (x, *gradients)]
    if impl == "native":
        dense = (*tensors, None, None)[:3]
        _native.op("minibatch_discrimination_native")(*dense, out, tangent if order == 2 else None, n, kernels, channels)
        return out, tangent
    tile = _TILED.of(x, _USUAL[order], order, channels, kernels, n)
    constants = _constants(channels, order, tile)
    programs = kernels * -(-n // constants["ROWS"]) * (-(-channels // constants["CHUNK"]) if order else 1)
    x, dy, v = (*tensors, out, out)[:3]
    _triton.launch(_kernel, programs, out, x, dy, v, out, tangent, n, kernels, num_warps=tile.warps, **constants)
    return out, tangent


@custom_op("gancore::minibatch_discrimination", mutates_args=())
def _forward(x: Tensor, impl: str) -> Tensor:
    return _run(impl, x)[0]


@custom_op("gancore::minibatch_discrimination_grad", mutates_args=())
def _grad(dy: Tensor, x: Tensor, impl: str) -> Tensor:
    return _run(impl, x, dy)[0]


@custom_op("gancore::minibatch_discrimination_grad2", mutates_args=())
def _grad2(v: Tensor, dy: Tensor, x: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    return _run(impl, x, dy, v)


@_forward.register_fake
def _(x: Tensor, impl: str) -> Tensor:
    return x.new_empty(x.shape[:2])


@_grad.register_fake
def _(dy: Tensor, x: Tensor, impl: str) -> Tensor:
    return x.new_empty(x.shape)


@_grad2.register_fake
def _(v: Tensor, dy: Tensor, x: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:2])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.impl = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    return _first(dy, *ctx.saved_tensors, ctx.impl), None


def _grad_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    g_x, g_dy = _grad2(v, *ctx.saved_tensors, ctx.impl)
    return g_dy, g_x, None


_value = direct(_forward, _keep, _backward)
_first = direct(_grad, _keep, _grad_backward)
not_offered(_grad2, "the third derivative of minibatch_discrimination")


@ranged
def minibatch_discrimination(x: Tensor, *, impl: str = "auto") -> Tensor:
    """o_ib = sum over j != i of exp(-|x_ib - x_jb|_1): how close sample i lies to the others, by each of B kernels.

    x: (N, B, C), B projections of N samples to C numbers; float32, bfloat16, float16 or float64, of any layout. Returns a
    contiguous tensor (N, B) of x's type, under autocast float32 for both low types. Inner values are float32 (float64 for
    float64) and rounded once. Memory is that of x: no pair of samples is stored, in no derivative.

    Twice differentiable; the derivative of |.| at 0 is 0. Third derivatives and torch.func transforms are left to "reference",
    whose graph holds all pairs.

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.

    Raises ValueError for an x that is no (N, B, C) and for an unknown impl, TypeError for a wrong type, RuntimeError where an
    explicit impl cannot run. Salimans et al. 2016, arXiv:1606.03498, section 3.2.
    """
    _check.floating("minibatch_discrimination", "x", x)
    if x.ndim != 3:
        raise ValueError(f"minibatch_discrimination: x got shape {tuple(x.shape)}, wants (N, B, C)")
    x = _computed(x)
    body = _dispatch.choose(SPEC, impl, x, lambda: _dispatch.size_class(len(x) * x.numel()))
    return reference(x) if body == "reference" else _value(x, body)


def _draw(*shape: int) -> Callable[[Generator], dict[str, Tensor]]:
    """x, whose values differ by 0.02 / size at least along the batch, so that no kink of |x_i - x_j| is within reach."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        apart = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(0).double()
        jitter = torch.rand(shape, generator=generator, dtype=torch.float64)
        return {"x": (apart + 0.5 * jitter) / max(1, shape[0]) * (3 / shape[2])}

    return draw


def _ahead() -> tuple[Ahead, ...]:
    pointers = ("x_ptr", "dy_ptr", "v_ptr", "out_ptr", "tangent_ptr")
    numbers = {"n": "i32", "kernels": "i32"}
    variants = (("*fp32", 5, 0), ("*fp32", 5, 1), ("*fp32", 5, 2), ("*bf16", 16, 1), ("*bf16", 48, 2))
    return tuple(
        Ahead(
            _kernel, dict.fromkeys(pointers, pointer) | numbers, _constants(channels, order, _USUAL[order]),
            registers=128, shared=1024,
        )
        for pointer, channels, order in variants
    )  # fmt: skip


_SIZES = ((16, 8, 4), (64, 16, 4), (64, 32, 16), (128, 100, 5), (256, 100, 5))

SPEC = Spec(
    name="minibatch_discrimination",
    fn=minibatch_discrimination,
    reference=reference,
    samples=(
        Sample("several", _draw(5, 3, 4)),
        Sample("one kernel", _draw(6, 1, 2)),
        Sample("one channel", _draw(5, 4, 1)),
        Sample("two samples", _draw(2, 2, 3)),
        Sample("more rows than a tile", _draw(37, 1, 3)),
        Sample("more channels than a chunk", _draw(3, 1, 19)),
    ),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    mixes=True,
    bytes_moved=lambda x: x.nbytes + x.nbytes // max(1, x.shape[2]),
    bad=(
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(2, 3, 4, dtype=torch.int64)}, TypeError, "x got torch.int64"),
        Bad({"x": torch.zeros(2, 3)}, ValueError, r"x got shape \(2, 3\), wants \(N, B, C\)"),
    ),
    bench=tuple(Bench(_dispatch.size_class(n * n * b * c), _draw(n, b, c)) for n, b, c in _SIZES),
    ahead=_ahead,
)
