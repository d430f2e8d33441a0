"""Binary voxel shapes and their silhouettes: `vox8` and `vox16`."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset

SHAPES = ("box", "ball", "cross")


def silhouette(voxels: Tensor) -> Tensor:
    """Projection (N, 1, S, S) of voxels (N, 1, S, S, S) along the depth, the first of the three: the largest value on each ray."""
    return voxels.amax(2)


def _draw(side: int, count: int, seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=generator)
    radius = side * (0.20 + 0.15 * torch.rand(count, generator=generator))
    margin = 1.15 * radius
    centre = margin[:, None] + (side - 2 * margin[:, None]) * torch.rand(count, 3, generator=generator)
    axis = torch.arange(side) + 0.5
    dz = (axis[:, None, None] - centre[:, 0, None, None, None]).abs()
    dy = (axis[:, None] - centre[:, 1, None, None, None]).abs()
    dx = (axis - centre[:, 2, None, None, None]).abs()
    r = radius[:, None, None, None]
    far = torch.maximum(torch.maximum(dx, dy), dz)
    near = torch.minimum(torch.minimum(dx, dy), dz)
    middle = dx + dy + dz - far - near
    ball = (dx**2 + dy**2 + dz**2).sqrt() <= 1.15 * r
    # Arms of at least one voxel: the centre of a voxel is at most half a side away.
    cross = (far <= 1.15 * r) & (middle <= (0.35 * r).clamp(min=0.51))
    x = torch.stack([far <= r, ball, cross], 1)[torch.arange(count), y]
    voxels = x[:, None].to(torch.uint8) * 255
    return Dataset(f"vox{side}", {"x": voxels, "silhouette": silhouette(voxels), "y": y, "radius": radius}, classes=3)


@cache
def vox8() -> Dataset:
    """8,192 shapes x (N, 1, 8, 8, 8) uint8, full or empty; "silhouette" (N, 1, 8, 8); y: box, ball, cross; "radius" (N,)."""
    return _draw(8, 8_192, 38)


@cache
def vox16() -> Dataset:
    """2,048 shapes x (N, 1, 16, 16, 16), otherwise as `vox8`."""
    return _draw(16, 2_048, 316)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Judge of voxels by their likeness to real ones. real: (M, voxels) float32 of 0 and 1. y: (M,)."""

    real: Tensor
    y: Tensor

    def nearest(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Intersection over union (N,) with the most alike real shape, and its class (N,).

        voxels: (N, 1, S, S, S), full where above 0. Empty ones have likeness 0.
        """
        full = (voxels.flatten(1) > 0).float()
        real = self.real.to(full.device)
        both = full @ real.T
        score, index = (both / (full.sum(1, keepdim=True) + real.sum(1) - both)).max(1)
        return score, self.y.to(full.device)[index]


def _gallery(dataset: Dataset) -> Gallery:
    return Gallery((dataset.fields["x"].flatten(1) > 0).float(), dataset.fields["y"])


@cache
def vox8_oracle() -> Gallery:
    """Likeness to the shapes of `vox8`."""
    return _gallery(vox8())


@cache
def vox16_oracle() -> Gallery:
    """Likeness to the shapes of `vox16`."""
    return _gallery(vox16())
