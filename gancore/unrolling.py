"""A network's weights some steps of learning ahead, as functions of what they learned from: gradients pass through every step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gancore.core import UsageError

Weights = dict[str, Tensor]
Rule = Callable[[Weights, Weights], Weights]  # weights and their slopes to the next weights


def unroll(network: nn.Module, loss: Callable[[Weights], Tensor], steps: int, rule: Rule) -> Weights:
    """The weights of `network` after so many updates by `rule` on `loss`, a scalar function of them; the network keeps its own."""
    weights: Weights = {name: w.detach().requires_grad_() for name, w in network.named_parameters()}
    for _ in range(steps):
        slopes = torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
        weights = rule(weights, dict(zip(weights, slopes, strict=True)))
    return weights


def descent(rate: float) -> Rule:
    """Gradient descent, w - rate dw."""
    return lambda weights, slopes: {name: w - rate * slopes[name] for name, w in weights.items()}


def own_rule(optimiser: torch.optim.Optimizer, network: nn.Module) -> Rule:
    """Adam (arXiv:1412.6980, algorithm 1) from where this optimiser of the network stands: its moments, counts and rates, which
    it keeps. Raises UsageError for another optimiser and for AMSGrad, decoupled decay or ascent.
    """
    settings = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    if type(optimiser) is not torch.optim.Adam or any(
        group[word] for group in optimiser.param_groups for word in ("amsgrad", "maximize", "decoupled_weight_decay")
    ):
        raise UsageError(f"only plain Adam's rule can be unrolled, not that of {optimiser!r}; name a rate for gradient descent")
    moments = {name: _Moments(settings[id(p)], optimiser.state.get(p, {}), p) for name, p in network.named_parameters()}
    return lambda weights, slopes: {name: moments[name].step(w, slopes[name]) for name, w in weights.items()}


class _Moments:
    """First and second moment of one tensor's slopes, as functions of them."""

    def __init__(self, settings: Mapping[str, Any], kept: Mapping[str, Tensor], like: Tensor) -> None:
        self.settings = settings
        self.count = kept.get("step", torch.zeros(())).detach().clone()
        self.mean, self.square = (kept.get(k, torch.zeros_like(like)).detach() for k in ("exp_avg", "exp_avg_sq"))

    def step(self, w: Tensor, slope: Tensor) -> Tensor:
        rate, (first, second), eps, decay = (self.settings[k] for k in ("lr", "betas", "eps", "weight_decay"))
        slope = slope + decay * w
        self.count = self.count + 1
        self.mean = first * self.mean + (1 - first) * slope
        self.square = second * self.square + (1 - second) * slope.square()
        square = self.square / (1 - second**self.count)
        # A root has no slope at zero, where a unit that no sample reaches would make NaN of its own.
        moved = square > 0
        root = torch.where(moved, square, 1.0).sqrt().where(moved, 0.0)
        return w - rate * (self.mean / (1 - first**self.count)) / (root + eps)
