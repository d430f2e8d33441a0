"""Moving averages of players: weights and floating-point buffers, one fused update for all of them."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from gancore.core.vocabulary import Nets


class Average:
    """Exponential moving average of some players, with the usual warm-up: the decay of step t is min(decay, (1+t)/(10+t)).

    `nets` is a view of all players in which the averaged ones stand for the trained ones.
    """

    def __init__(self, nets: Nets, players: Sequence[str], decay: float) -> None:
        self.decay = decay
        self.players = [p for p in players if p in nets] if decay else []
        copies = {p: copy.deepcopy(nets[p]).requires_grad_(False) for p in self.players}
        self.copies = nn.ModuleDict(copies)
        self._nets = nets
        pairs = [(a, b) for p in self.players for a, b in zip(_tensors(copies[p]), _tensors(nets[p]), strict=True)]
        self._floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._others = [(a, b) for a, b in pairs if not a.is_floating_point()]

    @property
    def nets(self) -> Nets:
        """All players, also those that a stage's hook added, the averages in place of the trained ones."""
        copies = dict(self.copies.items())
        return Nets({name: copies.get(name, net) for name, net in self._nets.items()})

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights; `step` counts from 0."""
        if self._floats:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_([mean for mean, _ in self._floats], [now for _, now in self._floats], 1 - decay)
        for mean, now in self._others:
            mean.copy_(now)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
