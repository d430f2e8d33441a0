"""Sixteen by sixteen images with known factors: `shapes16`, `bars16` and `pairs16`."""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore.data.classifier import Classifier, Training, convolutions, trained
from gancore.data.dataset import Dataset

SIDE = 16
COUNT = 8_192
SHAPES = ("square", "disc", "cross")
COLOURS = ("red", "green", "blue")


def pixels(x: Tensor) -> Tensor:
    """uint8 pixels of brightness x in [0, 1]."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def coverage(shape: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Share (N, 16, 16) of each pixel that lies in the shape.

    shape: (N,) index into SHAPES. centre: (N, 2) as x, y in pixels. radius: (N,) half the side of the square.
    """
    axis = torch.arange(SIDE) + 0.5
    dx = (axis[None, None, :] - centre[:, 0, None, None]).abs()
    dy = (axis[None, :, None] - centre[:, 1, None, None]).abs()
    r = radius[:, None, None]
    far, near = torch.maximum(dx, dy), torch.minimum(dx, dy)
    # A disc of 1.13 r has the square's area: size alone does not tell them apart.
    square, disc = r - far, 1.13 * r - (dx**2 + dy**2).sqrt()
    cross = torch.minimum(1.2 * r - far, 0.4 * r - near)
    inside = torch.stack([square, disc, cross], 1)[torch.arange(len(shape)), shape]
    return (inside + 0.5).clamp(0, 1)


def draw(count: int, seed: int, radius: tuple[float, float] = (3.5, 5.5)) -> tuple[Tensor, dict[str, Tensor]]:
    """Masks (count, 16, 16) of shapes that lie fully in view, and what they show: "shape", "colour", "size", "position"."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randint(3, (count,), generator=generator)
    colour = torch.randint(3, (count,), generator=generator)
    size = radius[0] + (radius[1] - radius[0]) * torch.rand(count, generator=generator)
    margin = 1.2 * size
    centre = margin[:, None] + (SIDE - 2 * margin[:, None]) * torch.rand(count, 2, generator=generator)
    return coverage(shape, centre, size), {"shape": shape, "colour": colour, "size": size, "position": centre}


def paint(mask: Tensor, colour: Tensor) -> Tensor:
    """Images (N, 3, 16, 16) in [0, 1] of masks (N, 16, 16) in colours (N,) on black."""
    return mask[:, None] * torch.eye(3)[colour][:, :, None, None]


def _columns(mask: Tensor, image: Tensor, factors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"x": pixels(image), "mask": pixels(mask)[:, None], "y": 3 * factors["shape"] + factors["colour"], **factors}


def _shapes(name: str, count: int, seed: int, radius: tuple[float, float] = (3.5, 5.5)) -> Dataset:
    mask, factors = draw(count, seed, radius)
    return Dataset(name, _columns(mask, paint(mask, factors["colour"]), factors), classes=9)


def _backed(name: str, count: int, seed: int) -> Dataset:
    """Shapes on backgrounds of dim colours, each image its own."""
    mask, factors = draw(count, seed)
    background = 0.6 * torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(seed + 1))
    image = background * (1 - mask[:, None]) + paint(mask, factors["colour"])
    return Dataset(name, _columns(mask, image, factors), classes=9)


def _subset(name: str, dataset: Dataset, rows: Tensor) -> Dataset:
    return Dataset(name, {key: value[rows] for key, value in dataset.fields.items()}, dataset.classes)


@cache
def shapes16() -> Dataset:
    """8,192 images x (N, 3, 16, 16): shape × colour at any position and size on black.

    "mask" (N, 1, 16, 16) uint8 is the share of each pixel in the shape; "y" is 3 * shape + colour; "shape", "colour" (N,) int64;
    "size" (N,) half a side and "position" (N, 2) x, y in pixels. `held_out` holds 2,048 other images. Parts with the same columns:
    "labelled", the first tenth; "red", "green" and "blue", the rows of one colour; "small", 2,048 shapes of 1.5 to 2.5 pixels
    instead of 3.5 to 5.5; "coloured", 8,192 on backgrounds of dim colours, of which its `held_out` has 2,048 more.
    """
    whole = _shapes("shapes16", COUNT, 16)
    colour = whole.fields["colour"]
    parts = {name: _subset(f"shapes16 {name}", whole, colour == k) for k, name in enumerate(COLOURS)}
    parts["labelled"] = _subset("shapes16 labelled", whole, torch.arange(COUNT // 10))
    parts["small"] = _shapes("shapes16 small", 2_048, 19, (1.5, 2.5))
    coloured = _backed("shapes16 coloured", COUNT, 20)
    parts["coloured"] = replace(coloured, held_out=_backed("shapes16 coloured held out", 2_048, 22))
    return replace(whole, held_out=_shapes("shapes16 held out", 2_048, 24), parts=parts)


def centre(images: Tensor) -> Tensor:
    """Centre of brightness (N, 2), x and y in pixels, of images (N, C, 16, 16) in [-1, 1]: of a shape on black, its position."""
    light = (images.amax(1) + 1).clamp(min=1e-6)
    light = light / light.sum((1, 2), keepdim=True)
    axis = torch.arange(SIDE, device=images.device) + 0.5
    return torch.stack([(light.sum(1) * axis).sum(1), (light.sum(2) * axis).sum(1)], 1)


def edges(mask: Tensor) -> Tensor:
    """Outline (N, 16, 16) in [0, 1] of masks (N, 16, 16): where the mask falls off within one pixel."""
    inner = -F.max_pool2d(-F.pad(mask[:, None], (1, 1, 1, 1)), 3, 1)
    return mask - inner[:, 0]


def _pairs(name: str, count: int, seed: int) -> Dataset:
    mask, factors = draw(count, seed)
    columns = _columns(mask, paint(edges(mask), factors["colour"]), factors)
    return Dataset(name, {**columns, "target": pixels(paint(mask, factors["colour"]))}, classes=9)


@cache
def pairs16() -> Dataset:
    """8,192 aligned pairs: x (N, 3, 16, 16) the edge map, "target" (N, 3, 16, 16) the filled shape; other columns as in shapes16.

    The outline is drawn in its colour, for else the colour of the target could not be known. Part "unpaired" has the same
    columns for 8,192 other shapes: a target drawn from it belongs to no edge map here. `held_out` holds 1,024 other pairs.
    """
    parts = {"unpaired": _pairs("pairs16 unpaired", COUNT, 18)}
    return replace(_pairs("pairs16", COUNT, 17), held_out=_pairs("pairs16 held out", 1_024, 26), parts=parts)


@cache
def bars16() -> Dataset:
    """8,192 images x (N, 1, 16, 16): one bar, two pixels wide, across a dark image.

    "y" (N,) its orientation of 8 (multiples of 22.5 degrees); "offset" (N,) float32 in [-4, 4] pixels from the centre.
    """
    generator = torch.Generator().manual_seed(61)
    y = torch.randint(8, (COUNT,), generator=generator)
    offset = 8 * torch.rand(COUNT, generator=generator) - 4
    angle = y * (math.pi / 8)
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    across = angle.cos()[:, None, None] * axis + angle.sin()[:, None, None] * axis[:, None]
    x = (1.5 - (across - offset[:, None, None]).abs()).clamp(0, 1)
    return Dataset("bars16", {"x": pixels(x)[:, None], "y": y, "offset": offset}, classes=8)


def _colour_body() -> nn.Module:
    return convolutions(3)


def _grey_body() -> nn.Module:
    return convolutions(1)


@cache
def shapes16_oracle() -> Classifier:
    """Reads "shape" and "colour" of images (N, 3, 16, 16); its nine classes are shapes16's labels."""
    how = Training(steps=600, lr=4e-3, batch=64)
    return trained("shapes16", _colour_body, lambda: shapes16().all(), {"shape": 3, "colour": 3}, how, ("shape", "colour"))


@cache
def pairs16_oracle() -> Classifier:
    """The judge of shapes16, for targets and what is translated to them."""
    return shapes16_oracle()


@cache
def bars16_oracle() -> Classifier:
    """Reads the orientation "y" of images (N, 1, 16, 16)."""
    return trained("bars16", _grey_body, lambda: bars16().all(), {"y": 8}, Training(steps=300, lr=4e-3, batch=64), ("y",))
