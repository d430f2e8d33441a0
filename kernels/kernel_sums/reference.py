"""Kernel matrices in plain PyTorch: any order of derivative, any device, quadratic memory."""

import torch
from torch import Tensor

from gancore.kernels.kernel_sums.kernel import (
    DOT,
    ENERGY,
    GAUSSIAN,
    INVERSE_MULTIQUADRIC,
    KINDS,
    LAPLACIAN,
    RATIONAL_QUADRATIC,
    SQUARED,
    Kernel,
    Packed,
    pack,
)


def shift(y: Tensor) -> Tensor:
    """A point (D,) amid the sample: what kernels of x - y alone take off both sides, since |x|^2 + |y|^2 - 2 x.y cancels far from
    the origin. One side decides, so that a row of the result depends on no other row of x."""
    center = y.detach().mean(0)
    return torch.where(center.isfinite(), center, torch.zeros_like(center))


def distances(metric: int, x: Tensor, y: Tensor, same: bool) -> Tensor:
    """(N, M): |x - y|^2, |x - y|_1 or x . y. same: y is x, whose distance from itself is zero."""
    if metric == DOT:
        return x @ y.T
    if metric == SQUARED:
        center = shift(y)
        x, y = x - center, y - center
        # One sum above zero: rounding may leave less, and inf, as a sample may be, makes NaN as differences would.
        d = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * (x @ y.T)
        d = torch.where(d < 0, torch.zeros_like(d), d)
    else:
        d = x.new_zeros(len(x), len(y))
        for k in range(x.shape[1]):
            d = d + (x[:, None, k] - y[None, :, k]).abs()
    return d * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device)) if same else d


def values(packed: Packed, d: Tensor) -> Tensor:
    """The kernel's values from distances of its metric."""
    total = torch.zeros_like(d)
    for code, (w, a, b) in zip(packed.codes, packed.params.to(d.dtype).unbind(), strict=True):
        kind, degree = code % KINDS, code // KINDS
        if kind == GAUSSIAN:
            k = torch.exp(d * (-0.5 / (a * a)))
        elif kind == RATIONAL_QUADRATIC:
            k = torch.exp(-a * torch.log1p(d / (2 * a)))
        elif kind == INVERSE_MULTIQUADRIC:
            k = a / (a + d)
        elif kind == ENERGY:
            # At distance 0 the root has no derivative; 0 is taken.
            apart = torch.where(d == 0, torch.ones_like(d), d)
            k = torch.where(d == 0, torch.zeros_like(d), -(apart ** (a / 2)))
        elif kind == LAPLACIAN:
            k = torch.exp(-d / a)
        else:
            k = (a * d + b) ** degree
        total = total + w * k
    return total


def matrix(x: Tensor, y: Tensor, kernel: Kernel, same: bool = False) -> Tensor:
    """K (N, M) of float32 or float64 samples x (N, D) and y (M, D)."""
    parts = [values(packed, distances(packed.metric, x, y, same)) for packed in pack(kernel, x.shape[1], x.device)]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
