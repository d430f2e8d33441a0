"""Optimal transport in one dimension, and Bregman costs between points (Guo et al. 2017, arXiv:1705.07164)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bregman:
    """D(x, y) = phi(x) - phi(y) - <grad phi(y), x - y> of a strictly convex, separable phi.

    phi, slope: elementwise; phi(x) is their sum over a point's numbers.
    """

    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, D) and (N, D) -> (N,), or any shapes that broadcast, the last dimension a point's numbers."""
        return (self.phi(x) - self.phi(y) - self.slope(y) * (x - y)).sum(-1)


SQUARE = Bregman(lambda x: 0.5 * x * x, lambda y: y)
"""Half the squared Euclidean distance."""

ENTROPY = Bregman(lambda x: torch.xlogy(x, x), lambda y: 1 + y.log())
"""sum x log (x / y) - x + y of positive points, the Kullback-Leibler cost."""


def sorted_cost(x: Tensor, y: Tensor, cost: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The least mean cost of pairing two samples of numbers (N,) each, (): that of their sorted order.

    It is the least where pairing crosswise never pays, which holds of |x - y|^p, p >= 1, and of every Bregman cost. Raises
    ValueError for samples of unequal size.
    """
    if x.shape != y.shape or x.dim() != 1:
        raise ValueError(f"x and y must be (N,) and as many, got {tuple(x.shape)} and {tuple(y.shape)}")
    return cost(x.sort().values.unsqueeze(1), y.sort().values.unsqueeze(1)).mean()
