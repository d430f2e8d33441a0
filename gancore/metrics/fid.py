"""Fréchet inception distance (Heusel et al. 2017, arXiv:1706.08500): W2 between Gaussians fitted to two sets of features.

    |m1 - m2|^2 + Tr(C1) + Tr(C2) - 2 Tr((C1 C2)^(1/2))

The product C1 C2 is not symmetric: its computed square root may be complex, or fail to exist where a covariance has no full
rank. Its trace is the sum of the singular values of C1^(1/2) C2^(1/2), which needs symmetric eigenvalues only, negative ones
taken as 0, and no square root of the product: what rounding leaves of its zeros stays at 1e-16 and is not raised to 1e-8.
"""

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import FeatureNetwork, both

# Below -1e-3 of the largest, an eigenvalue is no rounding error, not even one of float32.
_INDEFINITE = 1e-3


@metric
def fid(x: Tensor, y: Tensor, *, network: FeatureNetwork | None = None, batch: int = 256) -> float:
    """Fréchet distance between the features of samples x and data y, >= 0; 0 for equal means and covariances.

    x, y: features (N, D) and (M, D), or images (N, C, H, W) in [-1, 1] with `network`; N and M may differ, at least 2 each.
    Covariances have the divisor N - 1; all arithmetic is float64. The estimate is biased upwards for few samples: compare
    figures of the same N only.
    Raises ValueError on too few samples, different D, NaN or inf.
    """
    a, b = both(x, y, network, batch)
    return frechet_distance(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """|mu1 - mu2|^2 + Tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)) of two Gaussians, in float64, never negative.

    mu1, mu2: (D,); cov1, cov2: (D, D) symmetric, positive semi-definite up to rounding, of any rank.
    Raises ValueError on other shapes, NaN or inf, and on matrices that are no covariances.
    """
    mu1, mu2 = (_finite(name, mu, 1) for name, mu in (("mu1", mu1), ("mu2", mu2)))
    if mu1.shape != mu2.shape:
        raise ValueError(f"mu2: wants shape {tuple(mu1.shape)}, as mu1 has, got {tuple(mu2.shape)}")
    root1, root2 = (_root(name, cov, len(mu1)) for name, cov in (("cov1", cov1), ("cov2", cov2)))
    overlap = torch.linalg.svdvals(root1 @ root2).sum()
    distance = (mu1 - mu2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * overlap
    return max(0.0, float(distance))


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def _finite(name: str, t: Tensor, dim: int) -> Tensor:
    if t.dim() != dim:
        raise ValueError(f"{name}: wants {dim} dimensions, got shape {tuple(t.shape)}")
    if not bool(torch.isfinite(t).all()):
        raise ValueError(f"{name}: wants finite values, got NaN or inf")
    return t.detach().double()


def _root(name: str, cov: Tensor, size: int) -> Tensor:
    cov = _finite(name, cov, 2)
    if cov.shape != (size, size):
        raise ValueError(f"{name}: wants shape ({size}, {size}), got {tuple(cov.shape)}")
    scale = float(cov.abs().max())
    if float((cov - cov.T).abs().max()) > _INDEFINITE * scale:
        raise ValueError(f"{name}: wants a symmetric matrix, got one that differs from its transpose")
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    if float(values[0]) < -_INDEFINITE * scale:
        raise ValueError(f"{name}: wants a positive semi-definite matrix, got an eigenvalue of {float(values[0]):.4g}")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
