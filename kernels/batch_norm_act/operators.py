"""The registered operators: moments, value, gradient and second gradient."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from gancore.kernels import _layout
from gancore.kernels._activations import ACTS
from gancore.kernels._grad import direct, not_offered
from gancore.kernels.batch_norm_act import across, device, passes
from gancore.kernels.batch_norm_act.passes import Place


class Form(NamedTuple):
    """The arguments of the operators that are not tensors. group: the name of a process group, or ""."""

    training: bool
    eps: float
    act: str
    slope: float
    group: str
    impl: str


def body(impl: str) -> Any:
    """The module of the passes."""
    return passes if impl == "native" else device


def wide(x: Tensor) -> torch.dtype:
    """The type that channels are computed in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _dense(x: Tensor) -> Tensor:
    return _layout.matching(x, torch.empty_like(x))


@custom_op("gancore::batch_norm_moments", mutates_args=())
def _moments(x: Tensor, group: str, impl: str) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of x (N, C, ...), of all ranks of the group."""
    return merged([own_moments(x, impl)], x, group)


def own_moments(x: Tensor, impl: str) -> tuple[Tensor, Tensor, int]:
    """Each channel's mean in x, the sum of squares about it, (C,) in double, and the count."""
    x = _dense(x)
    channels, inner = _layout.channels(x, 1)
    if not x.numel():
        zero = x.new_zeros(x.shape[1], dtype=torch.float64)
        return zero, zero, 0
    return *body(impl).moments(x, channels, inner), x.numel() // channels


def merged(parts: Sequence[tuple[Tensor, Tensor, int]], x: Tensor, group: str) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of x from the moments of its parts, of all ranks of the group."""
    mean, var = across.merge(*across.together(parts), group)
    # Not `to` alone: two views of one tensor, or a tensor twice, are not results of an operator.
    return mean.to(wide(x), copy=True), var.to(wide(x), copy=True)


def coefficients(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, form: Form, rows: int = 3
) -> Tensor:  # fmt: skip
    """m, s and t in the first of the rows (rows, C): u = s x + t, as the library has it, infinite parameters included."""
    by = mean.new_empty(rows, len(mean))
    channels = (None if t is None else t.to(mean.dtype).contiguous() for t in (mean, var, weight, bias))
    body(form.impl).coefficients(*channels, form.eps, by)
    return by


@custom_op("gancore::batch_norm_act", mutates_args=())
def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor,
    training: bool, eps: float, act: str, slope: float, group: str, impl: str,
) -> Tensor:  # fmt: skip
    out = _layout.empty_like(x)
    if out.numel():
        place = Place(*_layout.channels(out, 1), act, slope)
        by = coefficients(weight, bias, mean, var, Form(training, eps, act, slope, group, impl))
        body(impl).apply(_layout.matching(x, out), by, place, out)
    return out


@custom_op("gancore::batch_norm_act_grad", mutates_args=())
def _grad(
    g: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, add_up: bool,
    training: bool, eps: float, act: str, slope: float, group: str, impl: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dx, dw and db; the last two are empty where add_up is false."""
    out = _layout.empty_like(x)
    g, x = _layout.matching(g, out), _layout.matching(x, out)
    place, form = Place(*_layout.channels(out, 1), act, slope), Form(training, eps, act, slope, group, impl)
    by = coefficients(weight, bias, mean, var, form, 5 if training else 3)
    dw = db = by.new_empty(0)
    if add_up or training:
        added = body(impl).sums(g, x, by, place) if x.numel() else x.new_zeros(2, x.shape[1], dtype=torch.float64)
        dw, db = channel_gradients(added, var, by, x, form)
    if x.numel():
        body(impl).gradient(g, x, by, place, out)
    return (out, dw, db) if add_up else (out, by.new_empty(0), by.new_empty(0))


def channel_gradients(added: Tensor, var: Tensor, by: Tensor, x: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """dw and db from the sums (2, C) of d and d e. In training also fills the last rows of the coefficients with what is subtracted
    from the gradient, s mean(d) and s r^2 mean(d e), over all ranks."""
    count = x.numel() // max(x.shape[1], 1)
    total = added
    if form.training and form.group:
        flat = across.add(torch.cat([added.flatten(), added.new_tensor([count])]), form.group)
        total, count = flat[:-1].view_as(added) / flat[-1].clamp_min(1), 1
    dw, db = by.new_empty(by.shape[1]), by.new_empty(by.shape[1])
    body(form.impl).gradients(added, total, max(count, 1), var.to(by.dtype).contiguous(), form.eps, by, dw, db)
    return dw, db


@custom_op("gancore::batch_norm_act_grad2", mutates_args=())
def _grad2(
    a: Tensor, p: Tensor, q: Tensor, g: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor,
    training: bool, eps: float, act: str, slope: float, group: str, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The derivatives of <a, dx> + <p, dw> + <q, db> by g, x, w and b. Plain PyTorch: few ask for this order, and rarely."""
    kind, given, form = wide(x), g, Form(training, eps, act, slope, group, impl)

    def along(v: Tensor) -> Tensor:
        return _layout.along(v.to(kind), x.ndim, 1)

    dims = [d for d in range(x.ndim) if d != 1]
    by, r = coefficients(weight, bias, mean, var, form), torch.rsqrt(var.to(kind) + eps)
    count = x.new_full((1,), x.numel() // max(x.shape[1], 1), dtype=kind)
    if training:
        count = across.add(count, group).clamp_min(1)

    def means(*ts: Tensor) -> list[Tensor]:
        """Of each over its channels, over all ranks."""
        added = across.add(torch.stack([t.sum(dims) for t in ts]), group) / count
        return [along(v) for v in added]

    a, g, e = a.to(kind), g.to(kind), x.to(kind) - along(mean)
    h, u = e * along(r), x.to(kind) * along(by[1]) + along(by[2])
    d = _first(g, u, form)
    turned, mixed = a, d
    if training:
        mean_a, mean_ah, mean_d, mean_dh = means(a, a * h, d, d * h)
        turned, mixed = a - mean_a - h * mean_ah, d - mean_d - h * mean_dh
    pull = turned * along(by[1]) + along(p) * h + along(q)
    bent = _second(pull, g, u, form)
    w = bent if weight is None else bent * along(weight)
    toward = w + along(p) * d
    own = (a * mixed).sum(dims)
    if training:
        toward = toward - along(by[1]) * (a * mean_dh + d * mean_ah)
        mean_t, mean_th = means(toward, toward * h)
        all_own = across.add(own.clone(), group) if group else own
        toward = toward - mean_t - h * mean_th - h * along(by[1] * all_own / count)
    found = _first(pull, u, form), toward * along(r), (bent * h).sum(dims) + r * own, bent.sum(dims)
    return _laid(found[0], given), _laid(found[1], x), found[2], found[3]


def _laid(t: Tensor, like: Tensor) -> Tensor:
    """t in the type and layout of `like`, which the operator's fake promises."""
    return _layout.matching(t.to(like.dtype), torch.empty_like(like))


def _first(g: Tensor, u: Tensor, form: Form) -> Tensor:
    """g act'(u)."""
    return torch.ops.gancore.bias_act_grad(g, u, None, False, False, 1, form.act, form.slope, 1.0, None, form.impl)[0]


def _second(v: Tensor, g: Tensor, u: Tensor, form: Form) -> Tensor:
    """v g act''(u)."""
    if not ACTS[form.act].smooth:
        return torch.zeros_like(u)
    return torch.ops.gancore.bias_act_grad2(v, g, u, None, False, False, 1, form.act, form.slope, 1.0, None, form.impl)[0]


@_moments.register_fake
def _(x: Tensor, group: str, impl: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[1], dtype=wide(x)), x.new_empty(x.shape[1], dtype=wide(x))


@_forward.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    return _layout.empty_like(x)


@_grad.register_fake
def _(g: Tensor, x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, add_up: bool, *rest: Any) -> tuple[Tensor, ...]:
    channels = [x.new_empty(x.shape[1] if add_up else 0, dtype=wide(x)) for _ in range(2)]
    return _layout.empty_like(x), *channels


@_grad2.register_fake
def _(a: Tensor, p: Tensor, q: Tensor, g: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    channels = [x.new_empty(x.shape[1], dtype=wide(x)) for _ in range(2)]
    return torch.empty_like(g), torch.empty_like(x), *channels


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.form = Form(*inputs[5:])


def like(t: Tensor, given: Tensor | None, wanted: bool) -> Tensor | None:
    """A gradient in the type of the tensor that it is of, where that is given and the gradient wanted."""
    return t.to(given.dtype) if wanted and given is not None else None


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, mean, var = ctx.saved_tensors
    add_up = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    dx, dw, db = gradients(g, x, weight, bias, mean, var, add_up, *ctx.form)
    channels = like(dw, weight, ctx.needs_input_grad[1]), like(db, bias, ctx.needs_input_grad[2])
    return dx, *channels, None, None, *[None] * len(ctx.form)


def _keep_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.add_up, ctx.form = inputs[6], Form(*inputs[7:])
    ctx.set_materialize_grads(False)


def _grad_backward(ctx: Any, a: Tensor | None, p: Tensor | None, q: Tensor | None) -> tuple[Tensor | None, ...]:
    g, x, weight, bias, mean, var = ctx.saved_tensors
    rest = [None] * (3 + len(ctx.form))
    if a is None and (not ctx.add_up or (p is None and q is None)):
        return None, None, None, None, *rest
    none = x.new_zeros(x.shape[1], dtype=wide(x))
    a = torch.zeros_like(x) if a is None else a
    p, q = (none if t is None or not ctx.add_up else t for t in (p, q))
    gg, gx, gw, gb = _grad2(a, p, q, g, x, weight, bias, mean, var, *ctx.form)
    needs = ctx.needs_input_grad
    return gg if needs[0] else None, gx if needs[1] else None, like(gw, weight, needs[2]), like(gb, bias, needs[3]), *rest


moments = not_offered(_moments, "the derivative of statistics without the normalisation")
value = direct(_forward, _keep, _backward)
gradients = direct(_grad, _keep_grad, _grad_backward)
not_offered(_grad2, "the third derivative of batch normalisation with an activation")
