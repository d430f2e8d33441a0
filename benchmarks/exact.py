"""What every body has to compute, in float64 and in blocks of rows: the measure of the correctness checks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_ROWS = 256


def mmd_value(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], of: str) -> tuple[float, float]:
    """Biased squared MMD, and the mean of k(x, x).

    kernel: of squared distances where `of` is "distance", of inner products where it is "product".
    """
    x, y = _prepared(x, y, of)

    def mean(a: Tensor, b: Tensor) -> float:
        return sum(float(_block(part, b, kernel, of).sum()) for part in a.split(_ROWS)) / (len(a) * len(b))

    within = mean(x, x)
    return within + mean(y, y) - 2 * mean(x, y), within


def mmd_gradient(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], of: str, rows: int) -> Tensor:
    """The gradient of the same in the first `rows` rows of x (rows, D)."""
    x, y = _prepared(x, y, of)
    gradients: list[Tensor] = []
    for part in x[:rows].split(_ROWS):
        leaf = part.clone().requires_grad_()
        # x_i stands in a row and in a column of k(x, x), hence the 2; beside y in rows alone, which count twice.
        inside = 2 * _block(leaf, x, kernel, of).sum() / len(x) ** 2 - 2 * _block(leaf, y, kernel, of).sum() / (len(x) * len(y))
        gradients += torch.autograd.grad(inside, leaf)
    return torch.cat(gradients)


def _prepared(x: Tensor, y: Tensor, of: str) -> tuple[Tensor, Tensor]:
    x, y = x.detach().double(), y.detach().double()
    # Distances do not change with a common shift, and the matrix product loses fewer digits near the origin.
    return (x - x.mean(0), y - x.mean(0)) if of == "distance" else (x, y)


def _block(a: Tensor, b: Tensor, kernel: Callable[[Tensor], Tensor], of: str) -> Tensor:
    dots = a @ b.T
    return kernel(a.square().sum(1)[:, None] + b.square().sum(1) - 2 * dots if of == "distance" else dots)


def minibatch(x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over minibatch discrimination of x (N, B, C) weighted by direction (N, B), and that sum's gradient in x."""
    leaf = x.detach().double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    gradient = torch.zeros_like(leaf)
    for part, weight in zip(leaf.split(_ROWS // 8), direction.double().split(_ROWS // 8), strict=True):
        near = (part[:, None] - leaf[None]).abs().sum(3).neg().exp().sum(1) - 1
        inside = (near * weight).sum()
        gradient += torch.autograd.grad(inside, leaf)[0]
        total += inside.detach()
    return total, gradient


def kid(x: Tensor, y: Tensor, subsets: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Mean over the pairs of index sets of the unbiased squared MMD with the kernel (a.b / D + 1)^3."""
    a, b = x.double().cpu().numpy(), y.double().cpu().numpy()

    def within(p: np.ndarray) -> float:
        k = (p @ p.T / p.shape[1] + 1) ** 3
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    def one(p: np.ndarray, q: np.ndarray) -> float:
        return within(p) + within(q) - 2 * float(((p @ q.T / p.shape[1] + 1) ** 3).mean())

    return float(np.mean([one(a[i.cpu().numpy()], b[j.cpu().numpy()]) for i, j in subsets]))
