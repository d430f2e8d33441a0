"""Constraint keepers: hooks that run after an update, and the terms that go with them."""

from collections.abc import Callable

import torch
from torch import Tensor

from gancore.core import Nets, State, Terms


def clip_weights(player: str, bound: float, part: str = "", least: float | None = None) -> Callable[[Nets, State, Terms], None]:
    """After-hook that brings every parameter of `player`, or of its submodule `part`, into [least, bound], by default
    [-bound, bound] (WGAN, arXiv:1701.07875, algorithm 1)."""

    def clip(nets: Nets, state: State, terms: Terms) -> None:
        weights: list[Tensor] = list(nets[player].get_submodule(part).parameters())
        torch._foreach_clamp_min_(weights, -bound if least is None else least)
        torch._foreach_clamp_max_(weights, bound)

    return clip


def second_moment(real: Tensor, fake: Tensor) -> Tensor:
    """(E f(x)^2 + E f(g)^2) / 2 of a critic's scores on data and fakes: (N,), (M,) -> (), what Fisher GAN holds at 1."""
    return 0.5 * (real.float().square().mean() + fake.float().square().mean())


def fisher(moment: Tensor, multiplier: Tensor, rho: float = 1e-6) -> Tensor:
    """What a second moment () other than 1 costs, (): multiplier (moment - 1) + rho / 2 (moment - 1)^2.

    The critic descends it beside its Wasserstein loss (Fisher GAN, Mroueh and Sercu 2017, arXiv:1705.09675, section 3).
    The multiplier gets no gradient: `fisher_multiplier` moves it.
    """
    off = moment - 1
    return multiplier.detach() * off + 0.5 * rho * off.square()


def fisher_multiplier(
    moment: str = "moment", multiplier: str = "multiplier", rho: float = 1e-6
) -> Callable[[Nets, State, Terms], None]:
    """After-hook that moves the state's buffer `multiplier` by rho (moment - 1) (algorithm 1 of arXiv:1705.09675).

    moment: the phase's term that holds it, which need not be routed.
    """

    def ascend(nets: Nets, state: State, terms: Terms) -> None:
        getattr(state, multiplier).add_(terms[moment] - 1, alpha=rho)

    return ascend
