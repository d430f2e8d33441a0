"""Where a gradient penalty is taken: between data and fakes, at either of them, or around data."""

from typing import Any, Literal

import torch
from torch import Tensor

Place = Literal["between", "real", "fake", "around"]
Inputs = Tensor | tuple[Tensor, ...]


def points(
    real: Inputs, fake: Inputs | None, at: str, eps: Tensor | None = None, noise: float | Tensor | None = None
) -> tuple[Tensor, ...]:
    """The points of `gradient_penalty`, which says what the arguments mean: one tensor for each input of the critic.

    Raises ValueError for a place that lacks its points and for an unknown one.
    """
    first, second = as_tuple(real), None if fake is None else as_tuple(fake)
    if at == "real":
        return first
    if at == "around":
        return tuple(x + _noise_for(x, noise) for x in first)
    if at not in ("between", "fake"):
        raise ValueError(f"at must be between, real, fake or around, got {at!r}")
    if second is None:
        raise ValueError(f"at={at!r} needs fake points, got None")
    if at == "fake":
        return second
    # Imported as it is used: to load Triton takes a third of a second.
    from gancore.kernels import interpolate

    # Of inputs of several types the first may be narrow, and one share serves all.
    x = first[0]
    share = torch.rand(len(x), device=x.device, dtype=x.dtype if x.dtype == torch.float64 else None) if eps is None else eps
    return tuple(interpolate(x, g, share) for x, g in zip(first, second, strict=True))


def as_tuple(points: Inputs) -> tuple[Tensor, ...]:
    """Points as one tensor for each input of the critic."""
    return points if isinstance(points, tuple) else (points,)


def _noise_for(x: Tensor, noise: float | Tensor | None) -> Any:
    if noise is None:
        return 0.5 * x.std() * torch.rand_like(x)
    return noise if isinstance(noise, Tensor) else noise * torch.randn_like(x)
