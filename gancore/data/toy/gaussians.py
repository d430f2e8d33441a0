"""Mixtures of Gaussians in the plane, where modes can be counted: `ring8` and `grid25`."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset

SIGMA = 0.1
COUNT = 65_536


@dataclass(frozen=True, eq=False)
class Mixture:
    """Judge of samples (N, 2) of an even mixture of N(centre, sigma²).

    centres: (modes, 2). A sample is of high quality within 3 sigma of a centre; a mode counts when at least 1 % of the samples
    are of high quality there.
    """

    centres: Tensor
    sigma: float

    def nearest(self, samples: Tensor) -> Tensor:
        """Index (N,) of the nearest centre."""
        return torch.cdist(samples.float(), self.centres.to(samples.device)).argmin(1)

    def quality(self, samples: Tensor) -> dict[str, float]:
        """Covered modes ("modes") and share of high-quality samples ("hq"); NaN samples are of no quality."""
        distance, mode = torch.cdist(samples.float(), self.centres.to(samples.device)).min(1)
        good = distance <= 3 * self.sigma
        counts = torch.bincount(mode[good], minlength=len(self.centres))
        return {"modes": int((counts >= 0.01 * len(samples)).sum()), "hq": float(good.float().mean())}


@cache
def ring8_oracle() -> Mixture:
    """Eight centres on a circle of radius 2."""
    angle = torch.arange(8) * (2 * math.pi / 8)
    return Mixture(2 * torch.stack([angle.cos(), angle.sin()], 1), SIGMA)


@cache
def grid25_oracle() -> Mixture:
    """Five by five centres with a spacing of 2."""
    axis = torch.arange(-4.0, 5.0, 2.0)
    return Mixture(torch.cartesian_prod(axis, axis), SIGMA)


def _draw(name: str, mixture: Mixture, seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    modes = len(mixture.centres)
    y = torch.randint(modes, (COUNT,), generator=generator)
    x = mixture.centres[y] + mixture.sigma * torch.randn(COUNT, 2, generator=generator)
    return Dataset(name, {"x": x, "y": y}, classes=modes)


@cache
def ring8() -> Dataset:
    """65,536 points x (N, 2) of eight Gaussians (sigma 0.1) on a circle of radius 2, y the mode."""
    return _draw("ring8", ring8_oracle(), 8)


@cache
def grid25() -> Dataset:
    """65,536 points x (N, 2) of 25 Gaussians (sigma 0.1) on a grid of spacing 2, y the mode."""
    return _draw("grid25", grid25_oracle(), 25)
