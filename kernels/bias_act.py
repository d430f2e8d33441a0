"""Bias, activation, gain and clamp in one pass.

    y = clamp(gain * act(u), -clamp, clamp),    u = x + b along `dim`

linear u | relu max(u, 0) | leaky_relu u or slope u | elu u or e^u - 1 | silu u s(u) | tanh | sigmoid s(u) = 1 / (1 + e^-u) |
softplus log(1 + e^u), from u > 20 on u.

With a = act(u), h = da/du and m = 0 where |gain a| > clamp, else 1:

    first derivative     dx = dy m gain h                  db = sum of dx over all dimensions but `dim`
    second derivative    for v = ddx + ddb:   d<v, dx>/d dy = v m gain h    d<v, dx>/du = v dy m gain dh/du

The first is linear in dy, so its own derivative in dy is itself. For every activation but silu h is a function of a alone:
without a clamp the output is kept instead of the input, which nothing else may need, and the second derivative is taken in y,
as v dy dh/da; from there it joins the other gradients that reach y in the one pass backward through this operator. Where h is
piecewise constant that term is zero, and every order of derivative exists; for the others a third derivative raises.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.library import custom_op

from gancore.kernels import _activations, _arguments, _check, _dispatch, _layout, _native, _tiles, _triton
from gancore.kernels._activations import ACTS
from gancore.kernels._grad import direct, not_offered
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Ahead, Bad, Bench, Sample, Spec
from gancore.kernels._triton import jit, tl

__all__ = ["bias_act"]


def reference(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str | None = "linear",
    slope: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device."""
    y = x if b is None else x + _layout.along(b, x.ndim, dim)
    y = ACTS[act or "linear"].reference(y, slope)
    y = y if gain is None or gain == 1 else y * gain
    y = y if clamp is None else y.clamp(-clamp, clamp)
    return y.clone() if y is x else y


@jit
def _kernel(  # type: ignore[no-untyped-def]
    ref_ptr, b_ptr, dy_ptr, ddx_ptr, out_ptr, partial_ptr,  # dense, of one layout; b (C,), partial float32 (blocks, C)
    rows, channels, inner, slope, gain, clamp,
    ACT: tl.constexpr, ORDER: tl.constexpr, FROM_OUTPUT: tl.constexpr, BIAS: tl.constexpr, CLAMP: tl.constexpr,
    SUM: tl.constexpr, WIDE: tl.constexpr, TILES: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """TILES tiles of ROWS positions by COLS channels, and their sums by channel."""
    pid = tl.program_id(0).to(tl.int64)
    strips = tl.cdiv(channels, COLS)
    block = pid // strips
    c = (pid % strips) * COLS + tl.arange(0, COLS)
    total = tl.zeros([COLS], tl.float32)
    if BIAS:
        b = tl.load(b_ptr + c, mask=c < channels, other=0.0).to(tl.float32)
    for tile in range(TILES):
        # 64-bit divisions once per tile; inside it 32 bits do unless a channel alone is longer than that.
        base = (block * TILES + tile) * ROWS
        lane = base % inner
        if not WIDE:
            lane = lane.to(tl.int32)
        lane = lane + tl.arange(0, ROWS)
        r = (base // inner + lane // inner) * channels * inner + lane % inner
        inside = (base + tl.arange(0, ROWS) < rows)[:, None] & (c < channels)[None, :]
        offs = r[:, None] + c[None, :] * inner
        u = tl.load(ref_ptr + offs, mask=inside, other=0.0).to(tl.float32)
        if BIAS:
            u += b[None, :]
        if FROM_OUTPUT:
            u = u / gain
            a = u
        else:
            a = _activations.act(u, slope, ACT)
        if ORDER == 0:
            out = a * gain
            if CLAMP:
                out = tl.where(out > clamp, clamp, tl.where(out < -clamp, -clamp, out))
        else:
            out = tl.load(dy_ptr + offs, mask=inside, other=0.0).to(tl.float32)
            if ORDER == 2:
                out = out * tl.load(ddx_ptr + offs, mask=inside, other=0.0).to(tl.float32) * _activations.second(u, a, ACT)
            if ORDER == 1 or (not FROM_OUTPUT and ACT != "silu"):
                out = _activations.first(out, u, a, slope, ACT)
            if not (ORDER == 2 and FROM_OUTPUT):
                out = out * gain
            if CLAMP:
                out = tl.where((a * gain > clamp) | (a * gain < -clamp), 0.0, out)
        tl.store(out_ptr + offs, out, mask=inside)
        if SUM:
            total += tl.sum(tl.where(inside, out, 0.0), axis=0)
    if SUM:
        tl.store(partial_ptr + block * channels + c, total, mask=c < channels)


class Form(NamedTuple):
    """The arguments of the operator that are not tensors, as the registered operators take them."""

    dim: int
    act: str
    slope: float
    gain: float
    clamp: float | None
    impl: str


def _run(form: Form, ref: Tensor, b: Tensor | None, *gradients: Tensor, from_output: bool, add_up: bool) -> tuple[Tensor, Tensor]:
    """One pass of order len(gradients) over dense copies, where needed, of the tensors; with the sums by channel, or an empty
    tensor."""
    out = torch.empty_like(ref)
    size = ref.shape[form.dim] if add_up else 0
    if out.numel() == 0:
        return out, out.new_zeros(size)
    dense = [_layout.matching(t, out) for t in (ref, *gradients)]
    channels, inner = _layout.channels(out, form.dim) if add_up or b is not None else (1, 1)
    b = b if b is None else b.contiguous()
    body = _launch_native if form.impl == "native" else _launch_triton
    return out, body(form, dense, b, out, channels, inner, from_output, add_up)


_NUMBERS = {act: number for number, act in enumerate(ACTS)}


def _launch_native(
    form: Form, dense: list[Tensor], b: Tensor | None, out: Tensor, channels: int, inner: int, from_output: bool, add_up: bool
) -> Tensor:
    ref, *gradients = dense
    dy, ddx = (*gradients, None, None)[:2]
    db = out.new_empty(channels) if add_up else None
    clamp = math.inf if form.clamp is None else form.clamp
    numbers = (channels, inner, _NUMBERS[form.act], len(gradients), from_output, form.slope, form.gain, clamp)
    _native.op("bias_act_native")(ref, b, dy, ddx, out, db, *numbers)
    return out.new_empty(0) if db is None else db


_TILED = _tiles.blocks("bias_act", "order", "sums", "last", "channels", "elements")


def _launch_triton(
    form: Form, dense: list[Tensor], b: Tensor | None, out: Tensor, channels: int, inner: int, from_output: bool, add_up: bool
) -> Tensor:
    ref, *gradients = dense
    dy, ddx = (*gradients, ref, ref)[:2]
    columns = 1 if inner > 1 else min(128, 1 << (channels - 1).bit_length())
    shape = (len(gradients), int(add_up), int(inner == 1), channels, out.numel())
    tile = _TILED.of(out, _tiles.Block(1024, 4), *shape)
    rows, height = out.numel() // channels, tile.elements // columns
    blocks = math.ceil(rows / height)
    # A power of two, since each is compiled by itself: Triton 3.6 interprets no loop of variable length under numpy 2.4.
    tiles = 1 << (math.ceil(blocks / 256) - 1).bit_length() if add_up else 1
    blocks = math.ceil(blocks / tiles)
    partial = out.new_empty(blocks, channels, dtype=torch.float32) if add_up else None
    _triton.launch(
        _kernel, blocks * math.ceil(channels / columns), out,
        ref, out if b is None else b, dy, ddx, out, out if partial is None else partial,
        rows, channels, inner, form.slope, form.gain, form.clamp or 0.0,
        ACT=form.act, ORDER=len(gradients), FROM_OUTPUT=from_output, BIAS=b is not None, CLAMP=form.clamp is not None,
        SUM=add_up, WIDE=inner + height >= 1 << 31, TILES=tiles, ROWS=height, COLS=columns,
        num_warps=tile.warps,
    )  # fmt: skip
    return out.new_empty(0) if partial is None else partial.sum(0).to(out.dtype)


@custom_op("gancore::bias_act", mutates_args=())
def _forward(x: Tensor, b: Tensor | None, dim: int, act: str, slope: float, gain: float, clamp: float | None, impl: str) -> Tensor:
    return _run(Form(dim, act, slope, gain, clamp, impl), x, b, from_output=False, add_up=False)[0]


@custom_op("gancore::bias_act_grad", mutates_args=())
def _grad(
    dy: Tensor, ref: Tensor, b: Tensor | None, from_output: bool, add_up: bool,
    dim: int, act: str, slope: float, gain: float, clamp: float | None, impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    form = Form(dim, act, slope, gain, clamp, impl)
    return _run(form, ref, b, dy, from_output=from_output, add_up=add_up)


@custom_op("gancore::bias_act_grad2", mutates_args=())
def _grad2(
    v: Tensor, dy: Tensor, ref: Tensor, b: Tensor | None, from_output: bool, add_up: bool,
    dim: int, act: str, slope: float, gain: float, clamp: float | None, impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    form = Form(dim, act, slope, gain, clamp, impl)
    return _run(form, ref, b, dy, v, from_output=from_output, add_up=add_up)


@_forward.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x)


@_grad.register_fake
def _(dy: Tensor, ref: Tensor, b: Tensor | None, from_output: bool, add_up: bool, dim: int, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(ref), ref.new_empty(ref.shape[dim] if add_up else 0)


@_grad2.register_fake
def _(v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.ops.gancore.bias_act_grad(*rest)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, b, *form = inputs
    ctx.form = Form(*form)
    row = ACTS[ctx.form.act]
    # Of a clamped, vanishing or folded output the input cannot be told.
    ctx.from_output = row.from_output and ctx.form.clamp is None and abs(ctx.form.gain) > 1e-30 and ctx.form.slope >= 0
    ctx.save_for_backward(*((output, None) if ctx.from_output else (x, b)))


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    needs_b = ctx.needs_input_grad[1]
    dx, db = _first(dy, *ctx.saved_tensors, ctx.from_output, needs_b, *ctx.form)
    return dx, db if needs_b else None, *[None] * len(ctx.form)


def _keep_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    dy, ref, b, ctx.from_output, ctx.add_up, *form = inputs
    ctx.form = Form(*form)
    ctx.save_for_backward(dy, ref, b)
    ctx.set_materialize_grads(False)


def _grad_backward(ctx: Any, ddx: Tensor | None, ddb: Tensor | None) -> tuple[Tensor | None, ...]:
    dy, ref, b = ctx.saved_tensors
    needs_dy, needs_ref, needs_b = ctx.needs_input_grad[:3]
    v = ddx
    if ctx.add_up and ddb is not None:
        spread = _layout.along(ddb, ref.ndim, ctx.form.dim)
        v = spread.expand_as(ref) if ddx is None else ddx + spread
    g_dy = g_ref = g_b = None
    if v is not None and needs_dy:
        g_dy = _first(v, ref, b, ctx.from_output, False, *ctx.form)[0]
    if v is not None and ACTS[ctx.form.act].smooth and (needs_ref or needs_b):
        g_ref, g_b = _grad2(v, dy, ref, b, ctx.from_output, needs_b, *ctx.form)
    return g_dy, g_ref, g_b if needs_b else None, *[None] * (2 + len(ctx.form))


_value = direct(_forward, _keep, _backward)
_first = direct(_grad, _keep_grad, _grad_backward)
not_offered(_grad2, "the third derivative of bias_act with a smooth activation")


@ranged
def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str | None = "linear",
    slope: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    impl: str = "auto",
) -> Tensor:
    """clamp(gain * act(x + b), -clamp, clamp) in one pass, twice differentiable in x and b.

    x: any shape and layout; float32, bfloat16, float16 or float64. b: (x.shape[dim],), added along `dim`. act: "linear" or
    None, "relu", "leaky_relu" (with `slope`), "elu", "silu", "tanh", "sigmoid", "softplus". gain: a factor, by default 1 for
    every activation. clamp: a bound >= 0 on the magnitude of the result, which has zero derivative beyond it.

    Returns a new tensor of x's shape and, where x is dense, layout. As in `x + b`, the result has the type that both promote
    to, under autocast too: pass a bias of x's type to stay in low precision. Inner values are float32 (float64 for float64) and
    rounded once.

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.
    Third derivatives of smooth activations, and torch.func transforms, are left to "reference".

    Raises ValueError for an unknown act or impl, a dim, slope, gain, clamp or b that does not fit; TypeError for a wrong type;
    RuntimeError where an explicit impl cannot run. After Karras et al. 2019, arXiv:1912.04958, appendix B, who fuse the same
    steps.
    """
    _check.floating("bias_act", "x", x)
    act, slope = _arguments.activation("bias_act", act, slope)
    factor, bound = _arguments.range_of("bias_act", gain, clamp)
    if b is not None:
        _check.floating("bias_act", "b", b, x.device)
        if not -x.ndim <= dim < x.ndim:
            raise ValueError(f"bias_act: dim got {dim}, wants a dimension of x, which has {x.ndim}")
        if b.shape != (x.shape[dim],):
            raise ValueError(f"bias_act: b got shape {tuple(b.shape)}, wants ({x.shape[dim]},), the size of x along dim {dim}")
        if b.dtype != x.dtype:
            both = torch.promote_types(x.dtype, b.dtype)
            x, b = x.to(both), b.to(both)
    steps = (b is not None) + (act != "linear") + (factor != 1.0) + (bound is not None)
    if impl == "auto" and steps < 2:
        impl = "reference"  # a single pass of PyTorch's leaves nothing to fuse
    body = _dispatch.choose(SPEC, impl, x, f"{act}/{_dispatch.size_class(x.numel())}")
    if body == "reference":
        return reference(x, b, dim, act, slope, factor, bound)
    return _value(x, b, dim, act, slope, factor, bound, body)


def _draw(shape: tuple[int, ...], dim: int = 1, bias: bool = True) -> Callable[[Generator], dict[str, Tensor]]:
    """x and b with every |x + b| in [0.1, 1.6], so that no kink of an activation, nor a clamp at 0.05 or 2, is within reach."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        u = torch.rand(shape, generator=generator, dtype=torch.float64) * 1.5 + 0.1
        u *= torch.randint(0, 2, shape, generator=generator) * 2 - 1
        if not bias:
            return {"x": u}
        b = torch.randn(shape[dim], generator=generator, dtype=torch.float64)
        return {"x": u - _layout.along(b, len(shape), dim), "b": b}

    return draw


def _samples() -> tuple[Sample, ...]:
    image = _draw((2, 3, 4, 5))
    plain = [Sample(act, image, {"act": act}) for act in ACTS]
    return (
        *plain,
        Sample("leaky_relu, gain, clamp", image, {"act": "leaky_relu", "slope": 0.3, "gain": 2**0.5, "clamp": 0.1}),
        Sample("tanh, gain, clamp", image, {"act": "tanh", "gain": -3.0, "clamp": 1.0}),
        Sample("elu, gain", image, {"act": "elu", "gain": 0.7}),
        Sample("silu, gain", image, {"act": "silu", "gain": 1.5}),
        Sample("softplus, clamp", image, {"act": "softplus", "clamp": 0.9}),
        Sample("sigmoid, vectors", _draw((3, 7), -1), {"act": "sigmoid", "dim": -1, "gain": 2.0}),
        Sample("leaky_relu, no bias", _draw((2, 3, 5), bias=False), {"act": "leaky_relu", "gain": 0.5}),
        Sample("softplus, volumes", _draw((2, 3, 2, 3, 2)), {"act": "softplus"}),
        Sample("elu, batch bias", _draw((3, 4, 2), 0), {"act": "elu", "dim": 0}),
    )


def _ahead() -> tuple[Ahead, ...]:
    pointers = dict.fromkeys(("ref_ptr", "b_ptr", "dy_ptr", "ddx_ptr", "out_ptr"), "*bf16") | {"partial_ptr": "*fp32"}
    numbers = {
        "rows": "i64",
        "channels": "i32",
        "inner": "i32",
        "slope": "fp32",
        "gain": "fp32",
        "clamp": "fp32",
    }
    base = {"BIAS": True, "CLAMP": False, "WIDE": False, "SUM": False, "TILES": 4}
    image, last = {"ROWS": 1024, "COLS": 1}, {"ROWS": 8, "COLS": 128}
    variants = (
        {**base, **image, "ACT": "leaky_relu", "ORDER": 0, "FROM_OUTPUT": False},
        {**base, **last, "ACT": "silu", "ORDER": 1, "FROM_OUTPUT": False, "SUM": True, "CLAMP": True},
        {**base, **image, "ACT": "softplus", "ORDER": 2, "FROM_OUTPUT": False, "SUM": True, "CLAMP": True},
        {**base, **last, "ACT": "tanh", "ORDER": 2, "FROM_OUTPUT": True, "BIAS": False, "WIDE": True},
    )
    return tuple(Ahead(_kernel, pointers | numbers, constants, registers=80, shared=1024) for constants in variants)


_SIZES = ((8, 16, 4, 4), (8, 32, 8, 8), (16, 64, 16, 16), (32, 64, 32, 32))

SPEC = Spec(
    name="bias_act",
    fn=bias_act,
    reference=reference,
    samples=_samples(),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    neighbour=_activations.neighbour,
    bytes_moved=lambda x, b=None, **options: 2 * x.nbytes + (0 if b is None else b.nbytes),
    fusible=True,
    bad=(
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "x got torch.int64"),
        Bad({"b": torch.zeros(4)}, ValueError, r"b got shape \(4,\), wants \(3,\)"),
        Bad({"b": torch.zeros(3, device="meta")}, ValueError, "b got device meta"),
        Bad({"dim": 4}, ValueError, "dim got 4"),
        Bad({"act": "relu6"}, ValueError, "act got 'relu6', wants one of 'linear'"),
        Bad({"slope": "0.2"}, TypeError, "slope got str"),
        Bad({"gain": float("nan")}, ValueError, "gain got nan"),
        Bad({"clamp": -1.0}, ValueError, "clamp got -1.0"),
    ),
    bench=tuple(
        Bench(f"{act}/{_dispatch.size_class(math.prod(shape))}", _draw(shape), {"act": act}) for act in ACTS for shape in _SIZES
    ),
    ahead=_ahead,
)
