"""Finite capacity, Arora et al. 2017, arXiv:1703.00573, theorem 3.1. A small D cannot see how small a support is.

The distance sup over D of the class of E_p log D + E_q log(1 - D) + 2 log 2, of a law p and q = m samples of it, falls like
(weights of D) / m. Support is seen by its collisions (Arora et al. 2018, arXiv:1706.08224): s samples of N atoms hold a pair with
probability 1 - exp(-s^2 / 2 N), so that the batch s at which half of the batches do gives N = s^2 / (2 log 2).
"""

import math
from typing import Any

import torch
from torch import Tensor

from gancore import losses
from gancore.core import demo
from gancore.figures import curves
from gancore.nets import Mlp
from gancore.theory import descend, seeded


@demo
def finite_capacity(
    sizes: tuple[int, ...] = (10, 40, 160, 640, 2000), units: int = 10, copies: int = 4, updates: int = 300, atoms: int = 400,
    trials: int = 200, stream: int = 0,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """sizes: m. units: of D's hidden layer. copies: of m samples each, over which the distance is averaged. updates: of each D.
    atoms: N of the generator whose support is estimated. trials: batches for each s. stream: seeds all draws."""
    with seeded(stream):
        law = torch.randn(5000, 2)
        distances = [sum(_distance(law, torch.randn(m, 2), units, updates) for _ in range(copies)) / copies for m in sizes]
        support = torch.randn(atoms, 16)
        rates = {s: sum(_collides(support, s) for _ in range(trials)) / trials for s in range(4, 3 * math.isqrt(atoms), 2)}
    half = min((s for s, rate in rates.items() if rate >= 0.5), default=max(rates))
    weights = sum(p.numel() for p in Mlp([2, units, 1]).parameters())
    figures: dict[str, float] = {"weights of D": weights}
    figures |= {f"distance to {m} samples": found for m, found in zip(sizes, distances, strict=True)}
    figures |= {"batch at which half collide": half, "atoms": atoms, "atoms, by collisions": half**2 / (2 * math.log(2))}
    lines = {"distance": (sizes, distances), "weights / 2 m": (sizes, [weights / (2 * m) for m in sizes])}
    return figures, curves(lines, "m", "neural net distance to m samples", xscale="log", yscale="log")


def _distance(law: Tensor, few: Tensor, units: int, updates: int) -> float:
    D = Mlp([2, units, 1])

    def loss() -> Tensor:
        return losses.bce(D(law), 1.0).mean() + losses.bce(D(few), 0.0).mean()

    return 2 * math.log(2) - descend(D.parameters(), loss, updates, 0.03)[-1]


def _collides(support: Tensor, s: int) -> bool:
    """Whether a batch of s noisy atoms holds two of one atom: nearer to each other than other atoms ever are."""
    x = support[torch.randint(len(support), (s,))] + 0.01 * torch.randn(s, support.shape[1])
    return bool(torch.pdist(x).min() < 0.2)
