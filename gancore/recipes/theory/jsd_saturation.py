"""Perfect discriminator, Arjovsky and Bottou 2017, arXiv:1701.04862, theorems 2.1 and 2.4. On disjoint supports G's gradient dies.

D on (0, u) against (theta, u): max V = E log D(x) + E log(1 - D(g)) rises to 0, its JSD estimate (V + 2 log 2) / 2 to log 2, and
the gradient of E log(1 - D(g)) by theta vanishes with it, while that of -E log D(g) grows.
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
def jsd_saturation(
    theta: float = 1.0, updates: int = 1500, batch: int = 256, units: int = 64, lr: float = 2e-3, probe: int = 10, stream: int = 0
) -> tuple[dict[str, float], Any]:
    """theta: distance of the lines. updates: of D. batch: samples of each line. units: of D's two hidden layers. lr: Adam's rate.
    probe: the early step that the last one is compared with. stream: seeds D and the draws."""
    seen: dict[str, list[float]] = {"accuracy": [], "value": [], "saturating": [], "non-saturating": []}
    with seeded(stream):
        D = Mlp([2, units, units, 1])

        def watch(step: int) -> None:
            with torch.no_grad():
                real, fake = D(_line(0.0, batch)), D(_line(theta, batch))
            seen["accuracy"].append(float(torch.cat([real > 0, fake <= 0]).float().mean()))
            seen["value"].append(-float(losses.minimax.critic(real, fake).mean()))
            seen["saturating"].append(_gradient(losses.minimax, D, theta, batch))
            seen["non-saturating"].append(_gradient(losses.non_saturating, D, theta, batch))

        def loss() -> Tensor:
            return losses.minimax.critic(D(_line(0.0, batch)), D(_line(theta, batch))).mean()

        descend(D.parameters(), loss, updates, lr, watch)
    early, late = seen["saturating"][probe], seen["saturating"][-1]
    figures = {
        "accuracy of D": seen["accuracy"][-1], "V": seen["value"][-1], "JSD estimate": seen["value"][-1] / 2 + math.log(2),
        f"gradient of log(1 - D) at step {probe}": early, "gradient of log(1 - D) at the end": late, "decay": early / late,
        "gradient of -log D at the end": seen["non-saturating"][-1],
    }  # fmt: skip
    lines = {name: (range(updates + 1), seen[name]) for name in ("saturating", "non-saturating")}
    return figures, curves(lines, "steps of D", "size of the gradient by theta", yscale="log")


def _line(theta: float | Tensor, n: int) -> Tensor:
    return torch.stack([torch.as_tensor(theta).expand(n), torch.rand(n)], 1)


def _gradient(pair: losses.Pair, D: Mlp, theta: float, n: int) -> float:
    at = torch.tensor(theta, requires_grad=True)
    return float(torch.autograd.grad(pair.generator(D(_line(at, n))).mean(), at)[0].abs())
