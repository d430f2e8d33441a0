"""Layers that follow one another, with one tensor a layer kept for backward.

One layer by itself keeps two tensors of its output's size: the convolution's raw result, for the normalisation, and the activated
one, for the next layer's weight gradient. Here a layer hands on its raw result with the numbers that normalise it. The next one
makes of it what it convolves, in memory that is dropped afterwards, and again in backward: two more passes for one tensor less.
On a CPU both go by slices of the batch that stay in the last cache, statistics and sums included.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _layout
from gancore.kernels._conv import Geometry, products
from gancore.kernels._ranges import ranged
from gancore.kernels.batch_norm_act import operators
from gancore.kernels.batch_norm_act import public as norms
from gancore.kernels.batch_norm_act.passes import Place
from gancore.kernels.conv_transpose import layer as layers
from gancore.kernels.conv_transpose.layer import ConvTransposeLink, Layer
from gancore.kernels.conv_transpose.public import body_of

_SLICE = 1 << 21  # bytes of a slice's raw result
_WEIGHTS = 8  # a slice's share in backward is at least this many times the weight, whose gradient each slice adds to


class Pending(NamedTuple):
    """A raw result and what is still to be done to it."""

    raw: Tensor
    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor
    form: operators.Form


def _slices(x: Tensor, y: Tensor, weight: Tensor) -> Iterator[slice]:
    """Of the batch; one on a GPU, where launches cost more than a pass."""
    n, size = len(y), max(x.nbytes, y.nbytes)
    count = 1 if y.device.type != "cpu" else max(1, min(n, size // max(_SLICE, _WEIGHTS * weight.nbytes)))
    step = -(-n // count) if n else 1
    for begin in range(0, max(n, 1), step):
        yield slice(begin, begin + step)


def _convolve(x: Tensor, layer: Layer, weight: Tensor, impl: str) -> Tensor:
    return layers.convolved(x, layer._replace(weight=weight), impl)[0]


class _Link(torch.autograd.Function):
    """The convolution of what is pending; its raw result, and mean and variance (empty where `statistics` are not wanted)."""

    @staticmethod
    def forward(
        ctx: Any, raw: Tensor, bn_weight: Tensor | None, bn_bias: Tensor | None, mean: Tensor, var: Tensor, weight: Tensor,
        form: operators.Form, layer: Layer, statistics: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        # The weight as it was given: of autocast's copies none is kept.
        ctx.save_for_backward(raw, bn_weight, bn_bias, mean, var, weight)
        ctx.form, ctx.geometry, weight = form, layer.geometry, layer.weight.detach()
        by = operators.coefficients(bn_weight, bn_bias, mean, var, form)
        y = torch.empty(layer.shape(raw), dtype=raw.dtype, device=raw.device, memory_format=_layout.format_of(raw))
        parts = []
        for part in _slices(raw, y, weight):
            h = _activated(raw[part], by, form)
            found = _convolve(h, layer, weight, form.impl)
            if len(found) == len(y):
                y = found
            else:
                y[part] = found
            if statistics:
                parts.append(operators.own_moments(found, form.impl))
        group = layer.norm.group if layer.norm is not None else ""
        moments = operators.merged(parts, y, group) if statistics else (mean.new_empty(0), mean.new_empty(0))
        ctx.mark_non_differentiable(*moments)
        return y, *moments

    @staticmethod
    def backward(ctx: Any, g: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        raw, bn_weight, bn_bias, mean, var, weight = ctx.saved_tensors
        geometry, needs = ctx.geometry, ctx.needs_input_grad
        pending = Pending(raw, bn_weight, bn_bias, mean, var, ctx.form)
        if torch.is_grad_enabled():
            found = _differentiable(g, pending, weight, geometry)
        else:
            found = _gradients(g, pending, weight, geometry, needs)
        graw, dw, db, gweight = found
        own = operators.like(dw, bn_weight, needs[1]), operators.like(db, bn_bias, needs[2])
        return graw if needs[0] else None, *own, None, None, gweight if needs[5] else None, None, None, None


def _activated(raw: Tensor, by: Tensor, form: operators.Form) -> Tensor:
    out = _layout.empty_like(raw)
    if raw.numel():
        operators.body(form.impl).apply(_layout.matching(raw, out), by, Place(*_layout.channels(out, 1), form.act, form.slope), out)
    return out


def _convolution_backward(g: Tensor, h: Tensor, weight: Tensor, m: Geometry, mask: Sequence[bool]) -> tuple[Tensor, Tensor]:
    sizes = list(m.stride), list(m.padding), list(m.dilation)
    found = torch.ops.aten.convolution_backward(g, h, weight, None, *sizes, True, list(m.output_padding), m.groups, [*mask, False])
    return found[0], found[1]


def _differentiable(g: Tensor, pending: Pending, weight: Tensor, m: Geometry) -> tuple[Tensor, ...]:
    """The same by operators that have derivatives, for a second backward."""
    *tensors, form = pending
    with torch.enable_grad():
        given, weight = weight, weight.to(g.dtype)
        h = operators.value(*tensors, *form)
        if form.impl == "triton":
            from gancore.kernels import _conv

            gh, gweight = _conv.correlate(g, weight, m, h.shape[2:]), _conv.weight_gradient(h, g, m, weight.shape[2:])
        else:
            gh, gweight = _convolution_backward(g, h, weight, m, (True, True))
        graw, dw, db = operators.gradients(gh, *tensors, True, *form)
        gweight = gweight.to(given.dtype)
    return graw, dw, db, gweight


def _gradients(g: Tensor, pending: Pending, weight: Tensor, m: Geometry, needs: Sequence[bool]) -> tuple[Tensor, ...]:
    raw, form = pending.raw, pending.form
    body = operators.body(form.impl)
    by = operators.coefficients(*pending[1:5], form, 5 if form.training else 3)
    out, added = _layout.empty_like(raw), raw.new_zeros(2, raw.shape[1], dtype=torch.float64)
    place = Place(*_layout.channels(out, 1), form.act, form.slope)
    onward = needs[0] or needs[1] or needs[2]
    given, weight, gweight = weight, weight.to(raw.dtype), None
    for part in _slices(raw, g, weight):
        h = _activated(raw[part], by, form)
        gh, more = _conv_gradients(g[part], h, weight, m, (onward, needs[5]), form.impl)
        if needs[5]:
            # Sums of slices are rounded once.
            gweight = more.to(operators.wide(more)) if gweight is None else gweight.add_(more)
        del h
        if onward:
            gh = _layout.matching(gh, out[part])
            if raw.numel():
                added += body.sums(gh, _layout.matching(raw[part], out[part]), by, place)
            if len(gh) == len(out):
                out = gh
            else:
                out[part] = gh
    dw, db = operators.channel_gradients(added, pending.var, by, raw, form) if onward else (by.new_empty(0), by.new_empty(0))
    if onward and raw.numel():
        body.gradient(out, _layout.matching(raw, out), by, place, out)
    return out, dw, db, given.new_zeros(given.shape) if gweight is None else gweight.to(given.dtype)


def _conv_gradients(g: Tensor, h: Tensor, weight: Tensor, m: Geometry, mask: Sequence[bool], impl: str) -> tuple[Tensor, Tensor]:
    none = weight.new_empty(0)
    if impl != "triton":
        apart = mask[1] and products.heavy(weight, m, len(h), h.shape[2:])
        gh, gweight = _convolution_backward(g, h, weight, m, (mask[0], mask[1] and not apart))
        return gh, products.weight_gradient(h, g, m, weight.shape[2:]) if apart else gweight
    from gancore.kernels import _conv

    return (
        _conv.correlate(g, weight, m, h.shape[2:]) if mask[0] else none,
        _conv.weight_gradient(h, g, m, weight.shape[2:]) if mask[1] else none,
    )


@ranged
def conv_transpose_chain(x: Tensor, links: Sequence[ConvTransposeLink], *, impl: str = "auto") -> Tensor:
    """conv_transposeNd_bn_act link after link, where backward keeps one tensor for each instead of two.

    x: as of conv_transposeNd_bn_act, N from its dimensions. links: at least one; the arguments of each layer. Values,
    derivatives up to the second, running statistics, types and errors are those of the layers applied one by one; memory for
    backward is x, one raw result a normalised layer, and the result of one that is not. impl: one for all layers. Inside
    torch.compile and under torch.func the layers are applied one by one.

    Raises ValueError and TypeError as the layers do, naming conv_transpose_chain.
    """
    op = layers.CHAIN
    if not links:
        raise ValueError(f"{op}: links got none, wants at least one")
    pending: Pending | None = None
    single = x.ndim == links[0].weight.ndim - 1
    kept, body = _layout.format_of(x), ""
    for link in links:
        x, layer = layers.checked(op, x if pending is None else pending.raw, link)
        # What a chain began with it goes on with: changing over would cost the tensor that it saves.
        body = pending.form.impl if pending is not None and impl == "auto" else body_of(layer, impl, x)
        apart = body == "reference" or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        if pending is not None and (apart or pending.form.impl != body):
            x, pending = operators.value(*pending[:5], *pending.form), None
        if apart:
            x = layers.reference(x, layer) if body == "reference" else layers.run(x, layer, body)
            continue
        x, pending = _step(x, pending, layer, body, link.weight)
    if pending is not None:
        x = operators.value(*pending[:5], *pending.form)
    x = x.contiguous(memory_format=kept) if body == "triton" else x
    return x[0] if single else x


def _step(x: Tensor, pending: Pending | None, layer: Layer, body: str, given: Tensor) -> tuple[Tensor, Pending | None]:
    """A layer of what is pending, or of x: its result, or its raw one as pending. given: its weight before a cast."""
    norm = layer.norm
    wanted = norm is not None and norm.training
    if pending is None:
        raw, mean, var = layers.convolved(x, layer, body, wanted and body == "triton" and not (norm and norm.group))
        known = None if mean is None or var is None else (mean, var)
        if wanted and known is None and norm is not None:
            known = operators.moments(raw.detach(), norm.group, body)
    else:
        raw, mean, var = _Link.apply(*pending[:5], given, pending.form, layer, wanted)
        known = (mean, var) if wanted else None
    if norm is None:
        return layers.finished(raw, layer, body), None
    raw, norm = layers.biased(raw, norm, layer.bias)
    mean, var = norms.taken(raw, norm, known, layer.bias)
    return raw, Pending(raw, norm.weight, norm.bias, mean, var, norms.form_of(norm, layer.act, layer.slope, body))
