"""Optimisers as values: what a recipe names, the loop builds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Optim:
    """An optimiser class and its settings; `build` binds it to parameters."""

    factory: Callable[..., torch.optim.Optimizer]
    lr: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over `parameters`, its base learning rate kept as "initial_lr" for schedules."""
        optimiser = self.factory(list(parameters), lr=self.lr, **self.settings)
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", self.lr)
        return optimiser


def adam(lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> Optim:
    """Adam (arXiv:1412.6980) in its fused form: one kernel for all tensors of a player."""
    return Optim(torch.optim.Adam, lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay, "fused": True})


def rmsprop(lr: float = 5e-5, alpha: float = 0.99, weight_decay: float = 0.0) -> Optim:
    """RMSProp without momentum, the optimiser of WGAN (arXiv:1701.07875)."""
    return Optim(torch.optim.RMSprop, lr, {"alpha": alpha, "weight_decay": weight_decay, "foreach": True})


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> Optim:
    """Stochastic gradient descent."""
    return Optim(torch.optim.SGD, lr, {"momentum": momentum, "weight_decay": weight_decay, "foreach": True})
