"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991): shares inside the other set's manifold.

The manifold of a set is the union of balls around its points that reach to the k-th nearest other point of the set (eq. 1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import FeatureNetwork, both

_ROWS = 1024


class PrecisionRecall(NamedTuple):
    """Share of samples inside the data's manifold, and share of data inside the samples' manifold; both in [0, 1]."""

    precision: float
    recall: float


@metric
def precision_recall(
    x: Tensor, y: Tensor, *, neighbours: int = 3, network: FeatureNetwork | None = None, batch: int = 256
) -> PrecisionRecall:
    """Precision (are samples x realistic?) and recall (is all of data y covered?) by k-nearest-neighbour balls.

    x, y: features (N, D) and (M, D), or images (N, C, H, W) in [-1, 1] with `network`; more than `neighbours` samples each.
    Memory is O(1024 max(N, M)). Distances are float64, up to about 1e-8 of the largest norm: closer points count as equal.
    Raises ValueError on too few samples, different D, NaN or inf.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: wants at least 1, got {neighbours}")
    a, b = both(x, y, network, batch, at_least=neighbours + 1)
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return PrecisionRecall(_inside(a, b, _radii(b, neighbours)), _inside(b, a, _radii(a, neighbours)))


def _radii(points: Tensor, k: int) -> Tensor:
    # The nearest of all points is the point itself.
    return torch.cat([torch.cdist(part, points).kthvalue(k + 1, dim=1).values for part in points.split(_ROWS)])


def _inside(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    hits = [(torch.cdist(part, centres) <= radii).any(1) for part in points.split(_ROWS)]
    return float(torch.cat(hits).double().mean())
