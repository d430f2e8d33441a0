"""The four passes over a tensor by Triton; passes.py has them for CPUs."""

import math

import torch
from torch import Tensor

from gancore.kernels import _activations, _tiles, _triton
from gancore.kernels._spec import Ahead
from gancore.kernels._triton import jit, tl
from gancore.kernels.batch_norm_act.passes import Place


@jit
def _elements(block, tile, rows, channels, inner, c, TILES: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Offsets (ROWS, COLS) of one tile of a block, and which of them lie inside."""
    # 64-bit divisions once per tile; inside it 32 bits do unless a channel alone is longer than that.
    base = (block * TILES + tile) * ROWS
    lane = base % inner
    if not WIDE:
        lane = lane.to(tl.int32)
    lane = lane + tl.arange(0, ROWS)
    r = (base // inner + lane // inner) * channels * inner + lane % inner
    inside = (base + tl.arange(0, ROWS) < rows)[:, None] & (c < channels)[None, :]
    return r[:, None] + c[None, :] * inner, inside


@jit
def _moments_kernel(  # type: ignore[no-untyped-def]
    x_ptr, partial_ptr,  # partial float32 (blocks, 2, C)
    rows, channels, inner,
    WIDE: tl.constexpr, TILES: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Mean less the channel's first value, and sum of squares about it, of TILES tiles, one merged with the next. So a mean far
    from 0 costs no digits."""
    pid = tl.program_id(0).to(tl.int64)
    strips = tl.cdiv(channels, COLS)
    block = pid // strips
    c = (pid % strips) * COLS + tl.arange(0, COLS)
    start = tl.load(x_ptr + c * inner, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    mean, squares = tl.zeros([COLS], tl.float32), tl.zeros([COLS], tl.float32)
    count = 0.0
    for tile in range(TILES):
        offs, inside = _elements(block, tile, rows, channels, inner, c, TILES, ROWS, WIDE)
        x = tl.where(inside, tl.load(x_ptr + offs, mask=inside, other=0.0).to(tl.float32) - start, 0.0)
        n = tl.minimum(tl.maximum(rows - (block * TILES + tile) * ROWS, 0), ROWS).to(tl.float32)
        here = tl.sum(x, axis=0) / tl.maximum(n, 1.0)
        off = tl.where(inside, x - here[None, :], 0.0)
        share = n / tl.maximum(count + n, 1.0)
        apart = here - mean
        squares += tl.sum(off * off, axis=0) + apart * apart * count * share
        mean += apart * share
        count += n
    tl.store(partial_ptr + block * 2 * channels + c, mean, mask=c < channels)
    tl.store(partial_ptr + (block * 2 + 1) * channels + c, squares, mask=c < channels)


@jit
def _pass_kernel(  # type: ignore[no-untyped-def]
    x_ptr, g_ptr, by_ptr, out_ptr, partial_ptr,  # dense, of one layout; by (3 or 5, C), partial (blocks, 2, C) float32
    rows, channels, inner, slope,
    ACT: tl.constexpr, STEP: tl.constexpr, TRAINING: tl.constexpr, WIDE: tl.constexpr,
    TILES: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """STEP "value" or "gradient" writes out; "sums" adds up d and d e over TILES tiles."""
    pid = tl.program_id(0).to(tl.int64)
    strips = tl.cdiv(channels, COLS)
    block = pid // strips
    c = (pid % strips) * COLS + tl.arange(0, COLS)
    known = c < channels
    mean = tl.load(by_ptr + c, mask=known, other=0.0)[None, :]
    scale = tl.load(by_ptr + channels + c, mask=known, other=0.0)[None, :]
    shift = tl.load(by_ptr + 2 * channels + c, mask=known, other=0.0)[None, :]
    one, two = tl.zeros([COLS], tl.float32), tl.zeros([COLS], tl.float32)
    for tile in range(TILES):
        offs, inside = _elements(block, tile, rows, channels, inner, c, TILES, ROWS, WIDE)
        x = tl.load(x_ptr + offs, mask=inside, other=0.0).to(tl.float32)
        u = x * scale + shift
        a = _activations.act(u, slope, ACT)
        if STEP == "value":
            tl.store(out_ptr + offs, a, mask=inside)
        else:
            d = _activations.first(tl.load(g_ptr + offs, mask=inside, other=0.0).to(tl.float32), u, a, slope, ACT)
            if STEP == "sums":
                d = tl.where(inside, d, 0.0)
                one += tl.sum(d, axis=0)
                two += tl.sum(tl.where(inside, d * (x - mean), 0.0), axis=0)
            else:
                d = d * scale
                if TRAINING:
                    d -= tl.load(by_ptr + 3 * channels + c, mask=known, other=0.0)[None, :]
                    d -= (x - mean) * tl.load(by_ptr + 4 * channels + c, mask=known, other=0.0)[None, :]
                tl.store(out_ptr + offs, d, mask=inside)
    if STEP == "sums":
        tl.store(partial_ptr + block * 2 * channels + c, one, mask=known)
        tl.store(partial_ptr + (block * 2 + 1) * channels + c, two, mask=known)


_USUAL = _tiles.Block(1024, 4)
_STEPS = ("moments", "value", "sums", "gradient")
_TILED = {step: _tiles.blocks(f"batch_norm_act.{step}", "last", "channels", "elements") for step in _STEPS}


def _grid(step: str, x: Tensor, channels: int, inner: int) -> tuple[int, int, dict[str, int]]:
    """Blocks, strips of channels, and the kernel's sizes: blocks of sums are at most some hundreds."""
    add_up = step in ("moments", "sums")
    columns = 1 if inner > 1 else min(128, 1 << (channels - 1).bit_length())
    tile = _TILED[step].of(x, _USUAL, int(inner == 1), channels, x.numel())
    rows, height = x.numel() // channels, tile.elements // columns
    blocks = math.ceil(rows / height)
    # A power of two, since each is compiled by itself: Triton 3.6 interprets no loop of variable length under numpy 2.4.
    tiles = 1 << (math.ceil(blocks / 256) - 1).bit_length() if add_up else 1
    sizes = {"WIDE": inner + height >= 1 << 31, "TILES": tiles, "ROWS": height, "COLS": columns, "num_warps": tile.warps}
    return math.ceil(blocks / tiles), math.ceil(channels / columns), sizes


def moments(x: Tensor, channels: int, inner: int) -> tuple[Tensor, Tensor]:
    """Each channel's mean, and the sum of squares about it, (C,) in double."""
    rows = x.numel() // channels
    blocks, strips, sizes = _grid("moments", x, channels, inner)
    partial = x.new_empty(blocks, 2, channels, dtype=torch.float32)
    _triton.launch(_moments_kernel, blocks * strips, x, x, partial, rows, channels, inner, **sizes)
    step = sizes["TILES"] * sizes["ROWS"]
    counts = (rows - step * torch.arange(blocks, device=x.device, dtype=torch.float64)).clamp(0, step)[:, None]
    means, squares = partial.double().unbind(1)
    mean = (counts * means).sum(0) / rows
    return x.as_strided((channels,), (inner,)).double() + mean, (squares + counts * (means - mean).square()).sum(0)


def _run(step: str, x: Tensor, g: Tensor, by: Tensor, place: Place, out: Tensor) -> Tensor:
    channels, inner, act, slope = place
    blocks, strips, sizes = _grid(step, x, channels, inner)
    partial = x.new_empty(blocks, 2, channels, dtype=torch.float32) if step == "sums" else by
    _triton.launch(
        _pass_kernel, blocks * strips, x, x, g, by, out, partial, x.numel() // channels, channels, inner, slope,
        ACT=act, STEP=step, TRAINING=len(by) > 3, **sizes,
    )  # fmt: skip
    return partial


def coefficients(mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, by: Tensor) -> None:
    """Fills the first three rows of `by` from tensors of its type."""
    m, s, t = by[:3].unbind()
    m.copy_(mean)
    torch.rsqrt(var + eps, out=s)
    if weight is not None:
        s.mul_(weight)
    torch.mul(m, s, out=t).neg_()
    if bias is not None:
        t.add_(bias)


def gradients(
    added: Tensor, total: Tensor, count: int, var: Tensor, eps: float, by: Tensor, weight: Tensor, bias: Tensor
) -> None:  # fmt: skip
    """Those of weight and bias from a rank's sums; from all ranks' and their count the last two rows of `by`, if it has them."""
    variance = var.double() + eps
    bias.copy_(added[0])
    weight.copy_(added[1] * torch.rsqrt(variance))
    if len(by) > 3:
        by[3].copy_(total[0] / count * by[1])
        by[4].copy_(total[1] / count * by[1] / variance)


def apply(x: Tensor, coefficients: Tensor, place: Place, out: Tensor) -> None:
    """out = act(u)."""
    _run("value", x, x, coefficients, place, out)


def sums(g: Tensor, x: Tensor, coefficients: Tensor, place: Place) -> Tensor:
    """(2, C) in double: of d = g act'(u), and of d e."""
    return _run("sums", x, g, coefficients, place, x).double().sum(0)


def gradient(g: Tensor, x: Tensor, coefficients: Tensor, place: Place, out: Tensor) -> None:
    """out = s d, less offset + multiple e in training. out may be g."""
    _run("gradient", x, g, coefficients, place, out)


def ahead() -> tuple[Ahead, ...]:
    """Of channels_last images in bfloat16."""
    numbers = {"rows": "i64", "channels": "i32", "inner": "i32"}
    sizes = {"WIDE": False, "TILES": 4, "ROWS": 8, "COLS": 128}
    tensors = {"x_ptr": "*bf16", "g_ptr": "*bf16", "by_ptr": "*fp32", "out_ptr": "*bf16", "partial_ptr": "*fp32"}

    def step(name: str, act: str) -> Ahead:
        constants = {**sizes, "ACT": act, "STEP": name, "TRAINING": name == "gradient"}
        return Ahead(_pass_kernel, {**tensors, **numbers, "slope": "fp32"}, constants, registers=96, shared=8192)

    moments = {"x_ptr": "*bf16", "partial_ptr": "*fp32", **numbers}
    return (
        Ahead(_moments_kernel, moments, sizes, registers=96, shared=8192),
        step("value", "relu"), step("sums", "silu"), step("gradient", "tanh"),
    )  # fmt: skip
