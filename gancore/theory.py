"""What demonstrations of theory share: laws on a line with divergences by quadrature, a plain descent, a random state of its own.

Laws are those of torch.distributions; a grid is float64, equally spaced, and wide enough for both laws to vanish at its ends.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from gancore.core import UsageError


@contextmanager
def seeded(stream: int) -> Iterator[None]:
    """A random state of its own; the caller's comes back."""
    with torch.random.fork_rng([]):
        torch.manual_seed(stream)
        yield


def normal(mean: float | Tensor, deviation: float | Tensor = 1.0) -> Normal:
    """N(mean, deviation^2) in float64."""
    return Normal(torch.as_tensor(mean).double(), torch.as_tensor(deviation).double())


def mixture(weights: Iterable[float], means: Iterable[float], deviations: Iterable[float]) -> MixtureSameFamily:
    """A mixture of Gaussians on the line in float64."""
    w, m, s = (torch.tensor(list(t), dtype=torch.float64) for t in (weights, means, deviations))
    return MixtureSameFamily(Categorical(w), Normal(m, s))


def grid(low: float = -30.0, high: float = 30.0, points: int = 6_001) -> Tensor:
    """Equally spaced points (N,) of float64."""
    return torch.linspace(low, high, points, dtype=torch.float64)


def kl(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """KL(p || q), the integral of p log(p / q) over the grid x."""
    log_p = p.log_prob(x)
    return torch.trapezoid(log_p.exp() * (log_p - q.log_prob(x)), x)


def jsd(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """Jensen-Shannon divergence: KL of each law to their half mixture, averaged; at most log 2."""
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * torch.trapezoid(log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m), x)


def descend(
    parameters: Iterable[Tensor], loss: Callable[[], Tensor], steps: int, lr: float, watch: Callable[[int], None] | None = None
) -> list[float]:
    """Adam on `loss()` with a learning rate that falls linearly to 0; the losses before each step.

    watch: called with the number of steps done, before each of them and once at the end.
    """
    optimizer = torch.optim.Adam(list(parameters), lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    losses = []
    for step in range(steps):
        if watch is not None:
            watch(step)
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.detach())
    if watch is not None:
        watch(steps)
    return torch.stack(losses).tolist()


def linear_program(cost: Tensor, **constraints: Any) -> float:
    """The minimum of <cost, v> under the constraints of scipy.optimize.linprog. Raises UsageError without scipy."""
    try:
        from scipy.optimize import linprog
    except ImportError:
        raise UsageError('the linear programs need scipy, which is missing; pip install "gancore[theory]"') from None
    return float(linprog(cost.flatten().numpy(), **constraints, method="highs").fun)


def fit_normal(
    loss: Callable[[Normal], Tensor], mean: float, deviation: float, steps: int = 1500, lr: float = 0.05
) -> tuple[Normal, list[float]]:
    """The Gaussian that descends `loss(law)` from N(mean, deviation^2), by its mean and log deviation, and the losses."""
    at = torch.tensor([mean, math.log(deviation)], dtype=torch.float64, requires_grad=True)
    losses = descend([at], lambda: loss(normal(at[0], at[1].exp())), steps, lr)
    found = at.detach()
    return normal(found[0], found[1].exp()), losses
