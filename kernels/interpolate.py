"""Points between two samples, in one pass: y = eps real + (1 - eps) fake (Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1).

As in torch.lerp, fake + eps (real - fake) for |eps| < 1/2 and real - (1 - eps) (real - fake) otherwise: exact at both ends.

    d/d real = eps dy        d/d fake = dy - eps dy        d/d eps = sum of dy (real - fake) over what shares one eps

A penalty's points are detached from both samples, so the backward is PyTorch's own operators, of any order.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.library import custom_op

from gancore.kernels import _check, _dispatch, _layout, _native, _tiles, _triton
from gancore.kernels._grad import direct
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Ahead, Bad, Bench, Sample, Spec
from gancore.kernels._triton import jit, tl

__all__ = ["interpolate"]


def reference(real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device."""
    kind = torch.promote_types(real.dtype, fake.dtype)
    wide = _layout.wide(kind)
    return torch.lerp(fake.to(wide), real.to(wide), _layout.along_batch(eps, real.ndim).to(wide)).to(kind)


@jit
def _kernel(  # type: ignore[no-untyped-def]
    real_ptr, fake_ptr, weight_ptr, out_ptr,  # of one layout; one weight, float32, for `period` elements
    n, period,
    BLOCK: tl.constexpr,
):  # fmt: skip
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < n
    real = tl.load(real_ptr + offs, mask=inside, other=0.0).to(tl.float32)
    fake = tl.load(fake_ptr + offs, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight_ptr + offs // period, mask=inside, other=0.0)
    apart = real - fake
    tl.store(out_ptr + offs, tl.where(tl.abs(w) < 0.5, fake + w * apart, real - apart * (1.0 - w)), mask=inside)


def _weights(eps: Tensor, real: Tensor, out: Tensor) -> tuple[Tensor, int]:
    """eps as a kernel reads it, in the type computed in, and how many consecutive elements of `out` share one number."""
    eps = _layout.along_batch(eps.to(_layout.wide(out.dtype)), real.ndim)
    if all(size == 1 for size in eps.shape[1:]):
        return eps.expand(len(real), *[1] * (real.ndim - 1)).reshape(-1).contiguous(), out.numel() // len(real)
    return _layout.matching(eps.expand_as(real), out), 1


_TILED = _tiles.blocks("interpolate", "each", "elements")


@custom_op("gancore::interpolate", mutates_args=())
def _forward(real: Tensor, fake: Tensor, eps: Tensor, impl: str) -> Tensor:
    result = torch.empty_like(real)
    if (n := result.numel()) == 0:
        return result
    out = _layout.by_sample(result)
    real, fake = _layout.matching(real, out), _layout.matching(fake, out)
    weight, period = _weights(eps, real, out)
    if impl == "native":
        _native.op("interpolate_native")(real, fake, weight, out, period)
    else:
        block, warps = _TILED.of(out, _tiles.Block(1024, 4), int(period == 1), n)
        _triton.launch(_kernel, -(-n // block), out, real, fake, weight, out, n, period, BLOCK=block, num_warps=warps)
    return _layout.matching(out, result)


@_forward.register_fake
def _(real: Tensor, fake: Tensor, eps: Tensor, impl: str) -> Tensor:
    return torch.empty_like(real)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    real, fake, eps, _ = inputs
    needs_eps = ctx.needs_input_grad[2]
    # The samples are needed for eps alone.
    ctx.save_for_backward(eps, *((real, fake) if needs_eps else ()))


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    eps, *samples = ctx.saved_tensors
    by_real = by_fake = by_eps = None
    wide = dy.to(_layout.wide(dy.dtype))
    share = _layout.along_batch(eps.to(wide.dtype), dy.ndim)
    if ctx.needs_input_grad[0]:
        by_real = (share * wide).to(dy.dtype)
    if ctx.needs_input_grad[1]:
        by_fake = ((1 - share) * wide).to(dy.dtype)
    if ctx.needs_input_grad[2]:
        real, fake = (t.to(wide.dtype) for t in samples)
        by_eps = (wide * (real - fake)).sum_to_size(share.shape).view_as(eps).to(eps.dtype)
    return by_real, by_fake, by_eps, None


_value = direct(_forward, _keep, _backward)


@ranged
def interpolate(real: Tensor, fake: Tensor, eps: Tensor, *, impl: str = "auto") -> Tensor:
    """eps * real + (1 - eps) * fake in one pass: real where eps is 1, fake where it is 0.

    real, fake: (N, ...) of one shape and any layout; float32, bfloat16, float16 or float64. eps: (N,), one number for each sample,
    or anything that broadcasts to real's shape. Returns a new tensor of real's shape and, where real is dense, layout, of the type
    that real and fake promote to, also under autocast; the low types are computed in float32 and rounded once. Derivatives of any
    order in all three.

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.

    Raises ValueError for shapes that do not fit, another device or an unknown impl, TypeError for a wrong type, RuntimeError where
    an explicit impl cannot run. Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
    """
    _check.floating("interpolate", "real", real)
    _check.floating("interpolate", "fake", fake, real.device)
    _check.floating("interpolate", "eps", eps, real.device)
    if real.ndim == 0 or real.shape != fake.shape:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"interpolate: real and fake got shapes {shapes}, wants one shape (N, ...)")
    one_each = eps.ndim == 1 and len(eps) == len(real)
    if not one_each and (eps.ndim == 1 or not _broadcasts(eps, real)):
        raise ValueError(
            f"interpolate: eps got shape {tuple(eps.shape)}, wants ({len(real)},) or one that broadcasts to {tuple(real.shape)}"
        )
    kind = torch.promote_types(real.dtype, fake.dtype)
    like = real if real.dtype == kind else fake
    body = _dispatch.choose(SPEC, impl, like, lambda: _dispatch.size_class(real.numel()))
    return reference(real, fake, eps) if body == "reference" else _value(real.to(kind), fake.to(kind), eps, body)


def _broadcasts(eps: Tensor, real: Tensor) -> bool:
    sizes = zip(reversed(eps.shape), reversed(real.shape), strict=False)
    return eps.ndim <= real.ndim and all(size in (1, whole) for size, whole in sizes)


def _draw(*shape: int, eps: tuple[int, ...] | None = None) -> Callable[[Generator], dict[str, Tensor]]:
    def draw(generator: Generator) -> dict[str, Tensor]:
        pair = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name in ("real", "fake")}
        return pair | {"eps": torch.rand(shape[:1] if eps is None else eps, generator=generator, dtype=torch.float64)}

    return draw


def _ahead() -> tuple[Ahead, ...]:
    numbers = {"n": "i64", "period": "i64", "weight_ptr": "*fp32"}
    return tuple(
        Ahead(_kernel, dict.fromkeys(("real_ptr", "fake_ptr", "out_ptr"), pointer) | numbers, {"BLOCK": 1024}, registers=80)
        for pointer in ("*fp32", "*bf16")
    )


_SIZES = ((16, 3, 8, 8), (32, 3, 16, 16), (32, 3, 64, 64), (64, 3, 128, 128))

SPEC = Spec(
    name="interpolate",
    fn=interpolate,
    reference=reference,
    samples=(
        Sample("images", _draw(4, 3, 5, 2)),
        Sample("one share for each element", _draw(3, 2, 5, eps=(3, 2, 5))),
        Sample("numbers", _draw(6)),
        Sample("shares with dimensions", _draw(3, 2, 4, 2, eps=(3, 1, 1, 1))),
    ),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    batched=("real", "fake", "eps"),
    bytes_moved=lambda real, fake, eps: 2 * real.nbytes + fake.nbytes + eps.nbytes,
    fusible=True,
    bad=(
        Bad({"real": 3.0}, TypeError, "real got float"),
        Bad({"fake": torch.zeros(4, 3, 5, 2, dtype=torch.int64)}, TypeError, "fake got torch.int64"),
        Bad({"fake": torch.zeros(4, 3, 5)}, ValueError, r"real and fake got shapes \(4, 3, 5, 2\) and \(4, 3, 5\)"),
        Bad({"eps": 0.5}, TypeError, "eps got float"),
        Bad({"eps": torch.zeros(3)}, ValueError, r"eps got shape \(3,\), wants \(4,\)"),
        Bad({"eps": torch.zeros(3, 4, 5, 2)}, ValueError, r"eps got shape \(3, 4, 5, 2\)"),
        Bad({"eps": torch.zeros(4, device="meta")}, ValueError, "eps got device meta"),
    ),
    bench=tuple(Bench(_dispatch.size_class(math.prod(shape)), _draw(*shape)) for shape in _SIZES),
    ahead=_ahead,
)
