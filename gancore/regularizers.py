"""Constraint keepers: hooks that run after an update."""

from collections.abc import Callable

import torch
from torch import Tensor

from gancore.core import Nets, State, Terms


def clip_weights(player: str, bound: float, part: str = "") -> Callable[[Nets, State, Terms], None]:
    """After-hook that brings every parameter of `player`, or of its submodule `part`, into [-bound, bound] (WGAN,
    arXiv:1701.07875, algorithm 1)."""

    def clip(nets: Nets, state: State, terms: Terms) -> None:
        weights: list[Tensor] = list(nets[player].get_submodule(part).parameters())
        torch._foreach_clamp_min_(weights, -bound)
        torch._foreach_clamp_max_(weights, bound)

    return clip
