"""The scales of a gradient penalty in float16: of the critic's gradient by its input, and of what is sent back through it.

A penalty takes the critic's gradient by itself, before any loss scale: a small one loses bits below 6e-5 and vanishes below 6e-8,
a large one overflows at 65,504. So that backward starts from a power of two s in place of 1, and its result is divided by s in
float32, before the norm. s belongs to the critic and is adapted from the largest magnitude seen, after each penalty; it starts at
1, and stays there while gradients are of a size that float16 has.

The penalty's own backward then enters the critic a second time, at any size: a penalty of 1e8 under a loss scale of 65,536 is
nothing unusual. It enters divided by a power of two that brings its largest element to 1, or as far below as the scaled gradient,
which it is multiplied with, lies above; and each parameter's gradient is multiplied by that in float32. So what float16 sees
depends on no loss scale. What overflows before s has settled is for the loss scaler to skip.

All is tensors on the device: nothing waits for it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

SMALL, LARGE = 2.0**-12, 2.0**4  # of the largest magnitude of a scaled gradient: beyond them s is chosen anew
MOST = 2.0**24  # s lies between 1 / MOST and MOST
RETREAT = 2.0**-8  # what s is multiplied by after an overflow, which says nothing of the true size


def wanted(points: tuple[Tensor, ...]) -> bool:
    """Whether a critic at these points works in float16."""
    device = points[0].device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return True
    return any(p.dtype == torch.float16 for p in points)


@custom_op("gancore::held", mutates_args=())
def _held(scale: Tensor) -> Tensor:
    """A copy that a compiler keeps for the backward. It would take the original, which by then is adapted."""
    return scale.clone()


_held.register_fake(torch.empty_like)


class Scaled:
    """One gradient under `scale` (), and its way back through the critic."""

    def __init__(self, scale: Tensor) -> None:
        self.start = _held(scale)
        self.largest = self.start  # magnitude of the gradient under it, once that is known
        self.back: Tensor | None = None  # of the backward under way

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A critic's parameters and buffers, to be called with: gradients leave by them as large as they should be."""
        return {name: _Leave.apply(t, self) if t.requires_grad else t for name, t in state.items()}

    def gradient(self, g: Tensor) -> Tensor:
        """The true gradient, of one that was taken from `start` in place of 1; in float32."""
        self.largest = g.detach().abs().amax().float()
        entered: Tensor = _Enter.apply(g.float(), self)
        return entered / self.start


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, scaled: Scaled) -> Tensor:
        ctx.scaled = scaled
        return g.view_as(g)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        most = v.detach().abs().amax() * ctx.scaled.largest.clamp_min(1)
        usual = most.isfinite() & (most > 0)
        ctx.scaled.back = torch.exp2(torch.where(usual, most, 1.0).log2().ceil().clamp(-126, 126))
        return v / ctx.scaled.back, None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scaled: Scaled) -> Tensor:
        ctx.scaled = scaled
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, dw: Tensor) -> tuple[Tensor, None]:
        return (dw * ctx.scaled.back).to(dw.dtype), None


@torch.no_grad()
def adapt(scale: Tensor, largest: Tensor) -> None:
    """Bring `scale` (), in place, to what suits a gradient whose largest magnitude was `largest` () under it."""
    low, high = torch.log2(SMALL / largest).ceil(), torch.log2(LARGE / largest).floor()
    moved = scale * torch.exp2(low.clamp_min(0) + high.clamp_max(0))
    moved = torch.where(largest.isfinite(), moved, scale * RETREAT)
    scale.copy_(torch.where(largest == 0, scale, moved).clamp(1 / MOST, MOST))
