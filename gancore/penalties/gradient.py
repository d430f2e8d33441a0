"""Gradient penalties: per-sample, independent of the batch size, differentiable in the critic's parameters."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import grad

from gancore.losses import root

Place = Literal["between", "real", "fake", "around"]
Inputs = Tensor | tuple[Tensor, ...]


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

    critic: maps points, then `conditions`, to scores; g is the gradient of the sum of all its outputs.
    real, fake: points (N, ...), or tuples of them for a critic of several inputs; the norm is then over all of them.
    at: "between" eps*real + (1-eps)*fake (WGAN-GP, arXiv:1704.00028, eq. 3); "real" or "fake" (R1 and R2, arXiv:1801.04406, with
        center=0); "around" real + noise (DRAGAN, arXiv:1705.07215).
    one_sided: only norms above the center cost (WGAN-LP, arXiv:1709.08894, eq. 8).
    norm: 1, 2 or inf.
    eps: (N,) or broadcastable; by default one uniform number per sample.
    noise: None is DRAGAN's 0.5 std(real) U[0,1) per element, a number s is N(0, s^2), a tensor is added as it is.
    create_graph: False where the penalty is only observed.

    Where g is 0 the derivative is 0. With center=0 and norm 2 the penalty is |g|^2, without a square root. Arithmetic on the
    gradient is float32 or wider. Raises ValueError for a place that lacks its points, an unknown place, or an unknown norm.
    """
    return _untraced()(critic, (_tuple(real), _tuple(fake)), at, (eps, noise), conditions, create_graph, (center, one_sided, norm))


_opaque: list[Callable[..., Tensor]] = []


def _untraced() -> Callable[..., Tensor]:
    # torch.compile refuses a double backward. Made on first use, because torch.compiler.disable loads the whole compiler.
    if not _opaque:
        _opaque.append(torch.compiler.disable(_at_points))
    return _opaque[0]


def _at_points(
    critic: Callable[..., Tensor],
    samples: tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None],
    at: str,
    chance: tuple[Tensor | None, float | Tensor | None],
    conditions: tuple[Tensor, ...],
    create_graph: bool,
    cost: tuple[float, bool, float],
) -> Tensor:
    _warn_of_batch_norm(critic)
    points = tuple(p.detach().requires_grad_() for p in _points(*samples, at, *chance))
    with torch.enable_grad():
        score = critic(*points, *conditions)
        gradients = grad(score.sum(), points, create_graph=create_graph, materialize_grads=True)
        flat = torch.cat([g.flatten(1) for g in gradients], 1)
        flat = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
        return _penalty(flat, *cost)


def _penalty(g: Tensor, center: float, one_sided: bool, norm: float) -> Tensor:
    if norm == 2 and center == 0:
        return (g * g).sum(1)
    if norm == 2:
        # Its derivative at 0 is 0: a critic that is constant there is pushed in no direction.
        size = root((g * g).sum(1))
    elif norm == 1:
        size = g.abs().sum(1)
    elif norm == float("inf"):
        size = g.abs().amax(1)
    else:
        raise ValueError(f"norm must be 1, 2 or inf, got {norm}")
    off = size - center
    return (off.relu() if one_sided else off) ** 2


def _points(
    real: tuple[Tensor, ...], fake: tuple[Tensor, ...] | None, at: str, eps: Tensor | None, noise: float | Tensor | None
) -> tuple[Tensor, ...]:
    if at == "real":
        return real
    if at == "around":
        return tuple(x + _noise_for(x, noise) for x in real)
    if at not in ("between", "fake"):
        raise ValueError(f"at must be between, real, fake or around, got {at!r}")
    if fake is None:
        raise ValueError(f"at={at!r} needs fake points, got None")
    if at == "fake":
        return fake
    n = len(real[0])
    share = torch.rand(n, device=real[0].device, dtype=real[0].dtype) if eps is None else eps
    return tuple(_mix(x, g, _per_sample(share, x)) for x, g in zip(real, fake, strict=True))


def _mix(x: Tensor, g: Tensor, share: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, g.dtype)  # under autocast fakes are narrower than data
    return torch.lerp(g.to(wide), x.to(wide), share.to(wide))


def _per_sample(eps: Tensor, x: Tensor) -> Tensor:
    return eps.view(-1, *[1] * (x.dim() - 1)) if eps.dim() == 1 else eps.expand_as(x)


def _noise_for(x: Tensor, noise: float | Tensor | None) -> Tensor:
    if noise is None:
        return 0.5 * x.std() * torch.rand_like(x)
    return noise if isinstance(noise, Tensor) else noise * torch.randn_like(x)


def _tuple(points: Inputs | None) -> Any:
    return points if points is None or isinstance(points, tuple) else (points,)


def _warn_of_batch_norm(critic: object) -> None:
    if isinstance(critic, nn.Module) and any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in critic.modules()
    ):
        warnings.warn(
            "the critic has batch normalisation in training mode: its score of one sample depends on the others, so the norm of "
            "one sample's gradient is not what the penalty means; use a critic without it",
            stacklevel=4,
        )
