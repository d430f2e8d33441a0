"""The activations that operators fuse: references, and for Triton kernels their values and derivatives. csrc/activations.h is
their native twin.

With a = act(u) and h = da/du: for every activation but silu h is a function of a alone, so that either u or a may be what is
kept.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gancore.kernels import _math
from gancore.kernels._triton import jit, tl


class Act(NamedTuple):
    """An activation: its reference, whether h is a function of the output alone, and whether h varies (is not piecewise
    constant)."""

    reference: Callable[[Tensor, float], Tensor]
    from_output: bool = True
    smooth: bool = True


# csrc/activations.h numbers them in this order.
ACTS = {
    "linear": Act(lambda u, slope: u, smooth=False),
    "relu": Act(lambda u, slope: F.relu(u), smooth=False),
    "leaky_relu": Act(lambda u, slope: F.leaky_relu(u, slope), smooth=False),
    "elu": Act(lambda u, slope: F.elu(u)),
    "silu": Act(lambda u, slope: F.silu(u), from_output=False),
    "tanh": Act(lambda u, slope: torch.tanh(u)),
    "sigmoid": Act(lambda u, slope: torch.sigmoid(u)),
    "softplus": Act(lambda u, slope: F.softplus(u)),
}


def neighbour(options: Mapping[str, Any]) -> dict[str, Any]:
    """An operator's options with the next activation, relu's where they name none; for `Spec.neighbour`."""
    names = list(ACTS)
    return {**options, "act": names[(names.index(options.get("act", "relu") or "linear") + 1) % len(names)]}


@jit
def act(u, slope, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """act(u)."""
    if ACT == "relu":
        return tl.where(u <= 0.0, 0.0, u)
    elif ACT == "leaky_relu":
        return tl.where(u > 0.0, u, u * slope)
    elif ACT == "elu":
        return tl.where(u > 0.0, u, _math.expm1(u))
    elif ACT == "silu":
        return u / (1.0 + tl.exp(-u))
    elif ACT == "tanh":
        return _math.tanh(u)
    elif ACT == "sigmoid":
        return _math.sigmoid(u)
    elif ACT == "softplus":
        return tl.where(u > 20.0, u, _math.softplus(u))
    else:
        return u


@jit
def first(g, u, a, slope, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """g h; selections, not products, where the reference selects, so that an infinite g meets no zero."""
    if ACT == "relu":
        return tl.where(a <= 0.0, 0.0, g)
    elif ACT == "leaky_relu":
        return tl.where(u > 0.0, g, g * slope)
    elif ACT == "elu":
        return tl.where(a > 0.0, g, g * (a + 1.0))
    elif ACT == "silu":
        s = _math.sigmoid(u)
        return g * s * (1.0 + u * (1.0 - s))
    elif ACT == "tanh":
        return g * (1.0 - a * a)
    elif ACT == "sigmoid":
        return g * a * (1.0 - a)
    elif ACT == "softplus":
        return tl.where(a > 20.0, g, -g * _math.expm1(-a))
    else:
        return g


@jit
def second(u, a, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """dh/da, for silu dh/du."""
    if ACT == "elu":
        return tl.where(a > 0.0, 0.0, 1.0)
    elif ACT == "silu":
        s = _math.sigmoid(u)
        return s * (1.0 - s) * (2.0 + u * (1.0 - 2.0 * s))
    elif ACT == "tanh":
        return -2.0 * a
    elif ACT == "sigmoid":
        return 1.0 - 2.0 * a
    else:
        return tl.where(a > 20.0, 0.0, tl.exp(-a))
