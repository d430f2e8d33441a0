"""Gradient penalties: per-sample, independent of the batch size, differentiable in the critic's parameters."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad

from gancore.kernels._ranges import spanned
from gancore.penalties import critics, scales
from gancore.penalties.points import Inputs, Place, points

Cost = tuple[float, bool, float]


@spanned
def gradient_penalty(
    critic: Callable[..., Tensor],
    real: Inputs,
    fake: Inputs | None = None,
    *,
    center: float = 1.0,
    one_sided: bool = False,
    norm: float = 2,
    at: Place = "between",
    eps: Tensor | None = None,
    noise: float | Tensor | None = None,
    conditions: tuple[Tensor, ...] = (),
    create_graph: bool = True,
) -> Tensor:
    """(|g_n| - center)^2 per sample, (N,): g_n is the critic's gradient at the n-th point, with no 1/2 and no weight.

    critic: maps points, then `conditions`, which are not differentiated, to scores; g is the gradient of the sum of all outputs.
    real, fake: points (N, ...), or tuples of them for a critic of several inputs; the norm is then over all of them.
    at: "between" eps*real + (1-eps)*fake (WGAN-GP, arXiv:1704.00028, eq. 3); "real" or "fake" (R1 and R2, arXiv:1801.04406, with
        center=0); "around" real + noise (DRAGAN, arXiv:1705.07215).
    one_sided: only norms above the center cost (WGAN-LP, arXiv:1709.08894, eq. 8).
    norm: 1, 2 or inf.
    eps: (N,) or broadcastable; by default one uniform number per sample.
    noise: None is DRAGAN's 0.5 std(real) U[0,1) per element, a number s is N(0, s^2), a tensor is added as it is.
    create_graph: False where the penalty is only observed.

    Where g is 0 the derivative is 0. With center=0 and norm 2 the penalty is |g|^2, without a square root. Arithmetic on the
    gradient is float32 or wider, and so is the result.

    Inside `torch.compile` a critic that is an nn.Module, of whatever differentiable operators, becomes part of the graph, also with
    fullgraph=True. Any other callable breaks the graph there and is run eagerly: what it holds cannot be told.

    In float16 the gradient of a module is taken at a power-of-two scale of its own (`gancore.penalties.scales`), which the loss
    scale does not touch.

    Raises ValueError for a place that lacks its points, an unknown place, or an unknown norm. Warns of batch normalisation in
    training mode in the critic.
    """
    where, cost = points(real, fake, at, eps, noise), (center, one_sided, norm)
    if not isinstance(critic, nn.Module):
        alone = _untraced() if torch.compiler.is_dynamo_compiling() else _penalty
        return alone(critic, where, conditions, None, create_graph, cost)[0]
    device, half = where[0].device, scales.wanted(where)
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.comptime.comptime(_open)
        which, by_state = id(critic) + 0, critics.traceable(_by_state)  # a sum, for the compiler to see a plain number
    else:
        _warn_of_batch_norm(critic)
        if not half:
            return _penalty(critic, where, conditions, None, create_graph, cost)[0]
        which, by_state = critics.number(critic, device), _by_state
    scale = [critics.scale(which)] if half else []
    penalty, *largest = by_state(which, critics.state(critic), where, conditions, scale, create_graph, cost)
    if half:
        scales.adapt(scale[0], largest[0])
    return penalty


def _by_state(
    which: int,
    state: dict[str, Tensor],
    where: tuple[Tensor, ...],
    conditions: tuple[Tensor, ...],
    scale: list[Tensor],
    create_graph: bool,
    cost: Cost,
) -> tuple[Tensor, ...]:
    """`_penalty` of a critic of which number and state are given, for `torch.compile` to trace and with a scale for float16."""
    scaled = scales.Scaled(*scale) if scale else None
    with torch.enable_grad():
        state = state if scaled is None else scaled.weights(state)
    return _penalty(partial(critics.call, which, state), where, conditions, scaled, create_graph, cost)


def _penalty(
    critic: Callable[..., Tensor],
    where: tuple[Tensor, ...],
    conditions: tuple[Tensor, ...],
    scaled: scales.Scaled | None,
    create_graph: bool,
    cost: Cost,
) -> tuple[Tensor, ...]:
    """The penalty (N,) and, of a scaled gradient, the largest magnitude () that it had."""
    # Imported as it is used: to load Triton takes a third of a second.
    from gancore.kernels import gradient_norm_penalty

    inputs = tuple(p.detach().requires_grad_() for p in where)
    center, one_sided, norm = cost
    cost = float(center), bool(one_sided), float(norm)  # symbols in a compiled function with dynamic=True
    with torch.enable_grad():
        score = critic(*inputs, *conditions)
        # The sum over the outputs is not formed: in float16 it may overflow.
        start = score.new_ones(()) if scaled is None else scaled.start.to(score.dtype)
        gradients = grad(score, inputs, start.expand_as(score), create_graph=create_graph, materialize_grads=True)
        g = gradients[0] if len(gradients) == 1 else torch.cat([_wide(g).flatten(1) for g in gradients], 1)
        if scaled is None:
            return (gradient_norm_penalty(g, *cost),)
        return gradient_norm_penalty(scaled.gradient(g), *cost), scaled.largest


def _wide(g: Tensor) -> Tensor:
    return g.float() if g.dtype in (torch.float16, torch.bfloat16) else g


def _open(compiler: Any) -> None:
    """What a compiler does once for the critic of the call that it traces: it finds the objects behind that call's variables."""
    critic, device = (compiler.get_local(name)._i_will_not_complain_if_bc_breaks_VariableTracker() for name in ("critic", "device"))
    _warn_of_batch_norm(critic.value)
    critics.opened(critic.value, device.as_python_constant(), _by_state)


_opaque: list[Callable[..., Any]] = []


def _untraced() -> Callable[..., Any]:
    # Made on first use, because torch.compiler.disable loads the whole compiler.
    if not _opaque:
        _opaque.append(torch.compiler.disable(_penalty, reason="the critic of a gradient penalty is not an nn.Module"))
    return _opaque[0]


def _warn_of_batch_norm(critic: nn.Module) -> None:
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in critic.modules()):
        warnings.warn(
            "the critic has batch normalisation in training mode: its score of one sample depends on the others, so the norm of "
            "one sample's gradient is not what the penalty means; use a critic without it",
            stacklevel=3,
        )
