"""The scale of a critic's float16 gradient by its input.

Within a penalty the critic's gradient is taken by itself, before any loss scale: one that is small loses bits below 6e-5 and
vanishes below 6e-8, one that is large overflows at 65,504. So the backward starts from a power of two s in place of 1, and its
result is divided by s in float32, before the norm. The way back carries 1 / s in turn, and what it carries is under the loss scale;
so s stays 1 while gradients are of a size that float16 has, and leaves it by no more than it must.

s belongs to the critic, is a tensor on its device and is adapted there after each gradient: nothing waits for the device.
"""

import torch
from torch import Tensor

SMALL, LARGE = 2.0**-14, 2.0**10  # of the largest magnitude of a scaled gradient: at these s is chosen anew
MOST = 2.0**16  # s lies between 1 / MOST and MOST
RETREAT = 2.0**-4  # what s is multiplied by after an overflow, which says nothing of the true size


def wanted(points: tuple[Tensor, ...]) -> bool:
    """Whether a critic at these points works in float16."""
    device = points[0].device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return True
    return any(p.dtype == torch.float16 for p in points)


@torch.no_grad()
def adapt(scale: Tensor, largest: Tensor) -> None:
    """Bring `scale` (), in place, to what suits a gradient whose largest magnitude was `largest` () under it."""
    low, high = torch.log2(SMALL / largest).ceil(), torch.log2(LARGE / largest).floor()
    moved = scale * torch.exp2(low.clamp_min(0) + high.clamp_max(0))
    moved = torch.where(largest.isfinite(), moved, scale * RETREAT)
    scale.copy_(torch.where(largest == 0, scale, moved).clamp(1 / MOST, MOST))
