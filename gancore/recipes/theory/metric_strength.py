"""Strength of distances, Arjovsky et al. 2017, arXiv:1701.07875, example 1. Parallel lines tell W1 from JSD, TV and KL.

Of (0, u) and (theta, u), u uniform in [0, 1]: W1 = |theta|, JSD = log 2, TV = 1 and KL infinite for every theta but 0. Estimates:
W1 by a critic, JSD = (V + 2 log 2) / 2, TV >= 2 accuracy - 1 and KL = E_p logit, without limit, by a discriminator.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gancore import losses
from gancore.core import demo
from gancore.data import load
from gancore.figures import curves
from gancore.nets import Mlp
from gancore.penalties import gradient_penalty
from gancore.theory import descend, seeded


@demo
def metric_strength(
    thetas: tuple[float, ...] = (1.0, 0.5, 0.1, 0.0), updates: int = 600, samples: int = 512, penalty: float = 10.0,
    lr: float = 5e-3, stream: int = 0,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """thetas: distances. updates: of each critic and discriminator. samples: of each line a step; half a line's points are held out
    and measured. penalty: weight of the critic's gradient penalty. lr: Adam's rate. stream: seeds networks and draws."""
    figures: dict[str, float] = {}
    lines: dict[str, tuple[tuple[float, ...], list[float]]] = {name: (thetas, []) for name in ("W1", "JSD", "TV")}
    for theta in thetas:
        rows = load(f"lines:{theta}")
        real, fake = rows.fields["x"], rows.parts["other"].fields["x"]
        with seeded(stream):
            f, D = Mlp([2, 64, 64, 1]), Mlp([2, 64, 64, 1])
            half = len(real) // 2

            def draw(half: int = half, real: Tensor = real, fake: Tensor = fake) -> tuple[Tensor, Tensor]:
                return real[torch.randint(half, (samples,))], fake[torch.randint(half, (samples,))]

            def transport(f: Mlp = f, draw: Any = draw) -> Tensor:
                x, y = draw()
                return (losses.wasserstein.critic(f(x), f(y))[:, 0] + penalty * gradient_penalty(f, x, y, one_sided=True)).mean()

            def classify(D: Mlp = D, draw: Any = draw) -> Tensor:
                return losses.minimax.critic(*map(D, draw())).mean()

            descend(f.parameters(), transport, updates, lr)
            descend(D.parameters(), classify, updates, lr)
        with torch.no_grad():
            x, y = real[half:], fake[half:]
            logit, other = D(x), D(y)
            found = {
                "W1": float((f(x) - f(y)).mean()), "JSD": math.log(2) - float(losses.minimax.critic(logit, other).mean()) / 2,
                "TV": 2 * float(torch.cat([logit > 0, other <= 0]).float().mean()) - 1, "KL": float(logit.mean()),
            }  # fmt: skip
        figures |= {f"{name} at {theta:g}": value for name, value in found.items()}
        for name, (_, values) in lines.items():
            values.append(found[name])
    return figures, curves(lines, "theta", "estimate")
