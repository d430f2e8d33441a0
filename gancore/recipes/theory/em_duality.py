"""Kantorovich-Rubinstein duality, Arjovsky et al. 2017, arXiv:1701.07875, eqs. 1 and 2. Transport plan and critic, one distance.

Primal: min sum_ij g_ij d_ij over plans g >= 0 of marginals a, b. Dual: max sum_i a_i f(x_i) - sum_j b_j f(y_j), f 1-Lipschitz on
all points. On the line W1 = mean |x_(i) - y_(i)|. There a two-sided penalty has a minimum of the wrong sign too, a one-sided none.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancore import losses
from gancore.core import demo
from gancore.figures import curves
from gancore.nets import Mlp
from gancore.penalties import gradient_penalty
from gancore.theory import descend, linear_program, seeded


@demo
def em_duality(
    points: int = 10, mean: float = 1.0, samples: int = 2000, updates: int = 400, penalty: float = 10.0, lr: float = 5e-3,
    stream: int = 0,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """points: of each side of the linear programs. mean: the line's laws are N(0, 1) and N(mean, 1). samples: of each. updates: of
    the critic. penalty: weight of its gradient penalty. lr: Adam's rate. stream: seeds points, weights, samples and critic."""
    with seeded(stream):
        x, y = torch.rand(2, points, 2, dtype=torch.float64)
        a, b = torch.rand(2, points, dtype=torch.float64).softmax(1)
        primal, dual = _primal(a, b, torch.cdist(x, y)), _dual(torch.cat([a, -b]), torch.cat([x, y]))
        real, fake = torch.randn(samples, 1), mean + torch.randn(samples, 1)
        f = Mlp([1, 64, 64, 1])

        def loss() -> Tensor:
            excess = gradient_penalty(f, real, fake, one_sided=True).mean()
            return losses.wasserstein.critic(f(real), f(fake)).mean() + penalty * excess

        descend(f.parameters(), loss, updates, lr)
    sorted_distance = float((real.sort(0).values - fake.sort(0).values).abs().mean())
    at = torch.linspace(-4, 5, 181)
    gap, seen = (f(real) - f(fake)).mean().item(), f(at[:, None])[:, 0].detach()
    figures = {
        "primal": primal, "dual": dual, "difference": abs(primal - dual),
        "W1 on the line, sorted": sorted_distance, "W1 on the line, critic": gap, "critic over sorted": gap / sorted_distance,
    }  # fmt: skip
    return figures, curves({"critic": (at, seen - seen.mean()), "slope 1": (at, at.mean() - at)}, "x", "f")


def _primal(a: Tensor, b: Tensor, distance: Tensor) -> float:
    n, m = distance.shape
    marginals = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    return linear_program(distance, A_eq=marginals, b_eq=torch.cat([a, b]).numpy(), bounds=(0, None))


def _dual(weight: Tensor, points: Tensor) -> float:
    i, j = (~torch.eye(len(points), dtype=torch.bool)).nonzero(as_tuple=True)
    eye = torch.eye(len(points), dtype=torch.float64)
    distance = torch.cdist(points, points)[i, j].numpy()
    return -linear_program(-weight, A_ub=(eye[i] - eye[j]).numpy(), b_ub=distance, bounds=(None, None))
