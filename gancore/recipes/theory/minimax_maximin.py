"""Minimax is not maximin, Goodfellow 2016, arXiv:1701.00160, section 5.1.1. Which player moves last decides.

min_G max_D V(G, D) >= max_D min_G V(G, D). In matching pennies, pure strategies, 1 and -1. On ring8 the player with the inner loop
is near its optimum for the other as it is: D inside (k_D = `inner`, k_G = 1) approximates the first, G inside (1, `inner`) the
second, whose G moves all its samples to the points that D likes best.
"""

from typing import Any

import torch

from gancore.core import demo
from gancore.figures import curves
from gancore.runs import open_run


@demo
def minimax_maximin(
    inner: int = 10, rounds: int = 1500, outer: int = 1, every: int = 100, batch: int = 256, rate: float = 1e-3, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """inner: updates of the inner player a round. outer: of the other. rounds: of training, for each order. every: rounds between
    two counts of the modes. batch: samples of each law. rate: Adam's learning rate for both, falling linearly. stream: the runs'
    seed."""
    pennies = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # V by G's strategy and D's
    counts = {}
    for name, k_d, k_g in (("D inside", inner, outer), ("G inside", outer, inner)):
        run = open_run(
            "dg-balance", data="ring8", net="toy", steps=rounds, batch_size=batch, seed=stream, ema=0.995, schedule="linear",
            log_every=every, save_every=every, lr=rate, critic_steps=k_d, generator_steps=k_g, saturating=True,
        )  # fmt: skip
        counts[name] = [record["metric/modes"] for record in run.train().metrics]
    late = {name: found[len(found) // 4 :] for name, found in counts.items()}  # both begin with no mode
    figures = {
        "pennies: min max": float(pennies.max(1).values.min()), "pennies: max min": float(pennies.min(0).values.max()),
        "D inside: modes at the end": counts["D inside"][-1],
        "G inside: share of counts of at most 4 modes": sum(c <= 4 for c in late["G inside"]) / len(late["G inside"]),
        "D inside: share of counts of at most 4 modes": sum(c <= 4 for c in late["D inside"]) / len(late["D inside"]),
    }  # fmt: skip
    ticks = [every * (i + 1) for i in range(len(counts["D inside"]))]
    return figures, curves({name: (ticks, found) for name, found in counts.items()}, "rounds", "modes of ring8")
