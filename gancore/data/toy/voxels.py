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


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (N,) of voxels a and b (N, 1, S, S, S), full where above 0; 0 where both are empty."""
    a, b = a.flatten(1) > 0, b.flatten(1) > 0
    return (a & b).sum(1) / (a | b).sum(1).clamp(min=1)


def _columns(side: int, count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=generator)
    radius = side * (0.20 + 0.15 * torch.rand(count, generator=generator))
    margin = 1.15 * radius
    centre = margin[:, None] + (side - 2 * margin[:, None]) * torch.rand(count, 3, generator=generator)
    # No silhouette tells the depth, and systems are asked for voxels given a silhouette.
    centre[:, 0] = side / 2
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
    return {"x": voxels, "silhouette": silhouette(voxels), "y": y, "radius": radius}


def _dataset(side: int, count: int) -> Dataset:
    name = f"vox{side}"
    columns = _columns(side, count, 30 + side)
    ball = columns["y"] == SHAPES.index("ball")
    views = torch.cat([columns["x"].amax(axis) for axis in (2, 3, 4)])
    parts = {
        "balls": Dataset(f"{name} balls", {key: value[ball] for key, value in columns.items() if key != "y"}),
        "views": Dataset(f"{name} views", {"x": views}),
    }
    held_out = Dataset(f"{name} held out", _columns(side, count // 8, 330 + side), classes=3)
    return Dataset(name, columns, classes=3, held_out=held_out, parts=parts)


@cache
def vox8() -> Dataset:
    """8,192 shapes x (N, 1, 8, 8, 8) uint8, full or empty: depth, height, width; y: box, ball, cross.

    Their centres lie anywhere in the middle plane. "silhouette" (N, 1, 8, 8) uint8 along the depth; "radius" (N,) float32.
    Parts: "balls", the balls alone, and "views", x (3 N, 1, 8, 8), the silhouettes along each of the three axes without the shapes.
    `held_out` holds 1,024 other shapes.
    """
    return _dataset(8, 8_192)


@cache
def vox16() -> Dataset:
    """2,048 shapes x (N, 1, 16, 16, 16), 256 held out, otherwise as `vox8`."""
    return _dataset(16, 2_048)


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
