"""The registered operators of kernel sums and their derivatives."""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from gancore.kernels._grad import direct, not_offered
from gancore.kernels.kernel_sums import device, native
from gancore.kernels.kernel_sums.form import PARAMS, First, Form, Points, U, V, X, Y

_NUMBERS = "the second derivative with parameters of a kernel"


def _plainly(run: str, form: Form, like: Tensor, *args: Any) -> Any:
    """The body's call outside of autocast, which would round what is passed to PyTorch's matrix product."""
    body = getattr(device if form.impl == "triton" else native, run)
    if not torch.is_autocast_enabled(like.device.type):
        return body(*args, form)
    with torch.autocast(like.device.type, enabled=False):
        return body(*args, form)


@custom_op("gancore::kernel_dot", mutates_args=())
def _dot(
    x: Tensor, y: Tensor, v: Tensor, params: Tensor,
    metric: int, codes: list[int], diagonal: bool, block: int, precision: str, impl: str,
) -> Tensor:  # fmt: skip
    form = Form(metric, codes, diagonal, block, precision, impl)
    return _plainly("dot", form, x, x, y, v, params)


@custom_op("gancore::kernel_form", mutates_args=())
def _form(
    x: Tensor, y: Tensor | None, u: Tensor, v: Tensor | None, params: Tensor, wanted: int,
    metric: int, codes: list[int], diagonal: bool, block: int, precision: str, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    form = Form(metric, codes, diagonal, block, precision, impl)
    left, right = Points(x, u), None if y is None or v is None else Points(y, v)
    return tuple(_plainly("first", form, x, left, right, params, wanted))


@custom_op("gancore::kernel_form_grad", mutates_args=())
def _form_grad(
    x: Tensor, y: Tensor | None, u: Tensor, v: Tensor | None, params: Tensor,
    px: Tensor | None, py: Tensor | None, pu: Tensor | None, pv: Tensor | None, wanted: int,
    metric: int, codes: list[int], diagonal: bool, block: int, precision: str, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    form = Form(metric, codes, diagonal, block, precision, impl)
    left, right = Points(x, u, px, pu), None if y is None or v is None else Points(y, v, py, pv)
    return tuple(_plainly("second", form, x, left, right, params, wanted))


def _shaped(wanted: int, bits: tuple[int, ...], *likes: Tensor | None) -> list[Tensor]:
    first = next(t for t in likes if t is not None)
    return [
        torch.empty_like(t, memory_format=torch.contiguous_format) if wanted & bit else t.new_empty(0)
        for bit, t in zip(bits, (first if t is None else t for t in likes), strict=True)
    ]


@_dot.register_fake
def _(x: Tensor, y: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return v.new_empty(x.shape[0], v.shape[1])


@_form.register_fake
def _(
    x: Tensor, y: Tensor | None, u: Tensor, v: Tensor | None, params: Tensor, wanted: int, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = _shaped(wanted, (X, Y, U, V), x, y, u, v)
    numbers = torch.empty_like(params) if wanted & PARAMS else params.new_empty(0)
    return params.new_empty(()), *gradients, numbers  # type: ignore[return-value]


@_form_grad.register_fake
def _(
    x: Tensor, y: Tensor | None, u: Tensor, v: Tensor | None, params: Tensor,
    px: Tensor | None, py: Tensor | None, pu: Tensor | None, pv: Tensor | None, wanted: int, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return tuple(_shaped(wanted, (X, Y, U, V), x, y, u, v))  # type: ignore[return-value]


def _bits(needs: tuple[bool, ...]) -> int:
    return sum(bit for bit, need in zip((X, Y, U, V, PARAMS), needs, strict=True) if need)


def _keep_dot(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, metric, codes, diagonal, block, precision, impl = inputs
    ctx.form = Form(metric, codes, diagonal, block, precision, impl)
    ctx.save_for_backward(*tensors)


def _dot_backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, ...]:
    x, y, v, params = ctx.saved_tensors
    need_x, need_y, need_v, need_params = ctx.needs_input_grad[:4]
    wanted = _bits((need_x, need_y, False, need_v, need_params))
    found = First(*form_of(x, y, out, v, params, wanted, *ctx.form))
    gradients = (found.x, found.y, found.v, found.params)
    return *(g if need else None for g, need in zip(gradients, ctx.needs_input_grad, strict=False)), *[None] * len(ctx.form)


def _keep_form(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, u, v, params, ctx.wanted, *form = inputs
    ctx.form = Form(*form)
    ctx.save_for_backward(x, y, u, v, params, *output[1:])
    ctx.set_materialize_grads(False)


def _form_backward(ctx: Any, value: Tensor | None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
    x, y, u, v, params, *gradients = ctx.saved_tensors
    needs = ctx.needs_input_grad[:5]
    totals: list[Tensor | None] = [None] * 5
    if value is not None:
        missing = _bits(needs) & ~ctx.wanted
        if missing:  # a form asked for fewer derivatives than its inputs, in a backward that is differentiated again
            gradients = list(First(*form_of(x, y, u, v, params, _bits(needs), *ctx.form))[1:])
        totals = [value.to(g.dtype) * g if need else None for g, need in zip(gradients, needs, strict=True)]
    tangents = tuple(t if ctx.wanted & bit else None for bit, t in zip((X, Y, U, V, PARAMS), tangents, strict=True))
    if any(t is not None for t in tangents):
        if tangents[4] is not None or needs[4]:
            raise NotImplementedError(f"{_NUMBERS} is not offered by the kernels; impl='reference' has every order")
        wanted = _bits(needs)
        along = _form_grad_of(x, y, u, v, params, *tangents[:4], wanted, *ctx.form)
        for i, (g, need) in enumerate(zip(along, needs, strict=False)):
            if need:
                totals[i] = g if totals[i] is None else totals[i] + g
    return *totals, *[None] * (1 + len(ctx.form))


dot_of = direct(_dot, _keep_dot, _dot_backward)
form_of = direct(_form, _keep_form, _form_backward)
not_offered(_form_grad, "the third derivative of a kernel sum")
_form_grad_of = _form_grad
