"""Modes covered and share of high-quality samples for mixtures of Gaussians (VEEGAN 2017, arXiv:1705.07761)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import features


class Modes(NamedTuple):
    """Number of modes that hold samples, and share of samples in [0, 1] that lie near some mode."""

    covered: int
    high_quality: float


@metric
def modes(x: Tensor, centres: Tensor, sigma: float = 0.1, *, radius: float = 3.0, share: float = 0.01) -> Modes:
    """How many of the centres the samples reach, and the share of samples of high quality.

    x: samples (N, D); centres: (K, D). A sample is of high quality within `radius` * `sigma` of its nearest centre; a mode
    counts when at least `share` of all samples are of high quality there (in the plane, at 3 sigma, 98.9 % of true ones are).
    Raises ValueError on different D, NaN or inf, no samples or no centres.
    """
    for name, value in (("sigma", sigma), ("radius", radius), ("share", share)):
        if not value > 0:
            raise ValueError(f"{name}: wants a positive number, got {value}")
    a, c = features("x", x, None, 1, at_least=1), features("centres", centres, None, 1, at_least=1)
    if a.shape[1] != c.shape[1]:
        raise ValueError(f"centres: wants {a.shape[1]} columns, as x has, got {c.shape[1]}")
    distance, nearest = torch.cdist(a, c.to(a.device), compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = distance <= radius * sigma
    counts = torch.bincount(nearest[good], minlength=len(c))
    return Modes(int((counts >= share * len(a)).sum()), float(good.double().mean()))
