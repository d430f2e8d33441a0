"""Short films of a coloured square that moves over a fixed textured background: `clips16`."""

import math
from functools import cache

import torch
from torch import Tensor, nn

from gancore.data.classifier import Classifier, Training, convolutions, trained
from gancore.data.dataset import Dataset

COUNT = 4_096
FRAMES = 8
FACTORS = {"colour": 3, "background": 3, "direction": 4, "speed": 2}
HALF = 2.0  # half the side of the square
SPEEDS = (0.5, 1.1)  # pixels a frame


def _textures() -> Tensor:
    axis = torch.arange(16) * (2 * math.pi / 4)
    stripes = (axis.sin() * 0.12 + 0.25).expand(16, 16)
    checks = axis.sin()[:, None] * axis.sin() * 0.12 + 0.25
    return torch.stack([stripes, stripes.T, checks])


@cache
def clips16() -> Dataset:
    """4,096 films x (N, 3, 8, 16, 16): channels, frames, height, width.

    Content: "colour" of the square (red, green, blue) and "background" (3 grey textures, which stand still). Motion: "direction"
    (right, down, left, up) and "speed" (slow, fast). All (N,) int64; "y" is the direction. "mask" (N, 1, 8, 16, 16) uint8 is the
    share of each pixel that the square covers.
    """
    generator = torch.Generator().manual_seed(48)
    factors = {name: torch.randint(size, (COUNT,), generator=generator) for name, size in FACTORS.items()}
    angle = factors["direction"] * (math.pi / 2)
    velocity = torch.stack([angle.cos(), angle.sin()], 1) * torch.tensor(SPEEDS)[factors["speed"]][:, None]
    travel = velocity * (FRAMES - 1)
    low = HALF + (-travel).clamp(min=0)
    start = low + (16 - 2 * HALF - travel.abs()) * torch.rand(COUNT, 2, generator=generator)
    centre = start[:, None] + velocity[:, None] * torch.arange(FRAMES)[:, None]
    axis = torch.arange(16) + 0.5
    across = (HALF + 0.5 - (axis - centre[:, :, 0, None]).abs()).clamp(0, 1)
    down = (HALF + 0.5 - (axis - centre[:, :, 1, None]).abs()).clamp(0, 1)
    mask = (down[:, :, :, None] * across[:, :, None, :])[:, None]
    background = _textures()[factors["background"]][:, None, None]
    colour = (0.15 + 0.85 * torch.eye(3))[factors["colour"]][:, :, None, None, None]
    x = torch.lerp(background, colour, mask)
    pixels = {"x": (255 * x).round().to(torch.uint8), "mask": (255 * mask).round().to(torch.uint8)}
    return Dataset("clips16", {**pixels, "y": factors["direction"], **factors}, classes=4)


def saturation(clips: Tensor) -> Tensor:
    """Range of the colour channels (N, T, H, W), in [0, 1], of clips (N, 3, T, H, W) in [-1, 1]: 0 on grey, high on the square."""
    return (clips.amax(1) - clips.amin(1)) / 2


def colours(clips: Tensor) -> Tensor:
    """Colour (N, T) of the square in each frame of clips (N, 3, T, H, W), T any number."""
    return ((clips + 1) * saturation(clips)[:, None]).sum((3, 4)).argmax(1)


def path(clips: Tensor) -> Tensor:
    """Centre (N, T, 2) of the square, x and y in pixels, in each frame of clips (N, 3, T, H, W), T any number."""
    weight = (saturation(clips) - 0.2).clamp(min=0)
    weight = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
    axis = torch.arange(clips.shape[-1], device=clips.device) + 0.5
    return torch.stack([(weight.sum(2) * axis).sum(-1), (weight.sum(3) * axis).sum(-1)], -1)


def _body() -> nn.Module:
    # Frames become channels: how the square moves is then seen by the first convolution.
    return nn.Sequential(nn.Flatten(1, 2), convolutions(3 * FRAMES))


@cache
def clips16_oracle() -> Classifier:
    """Reads colour, background, direction and speed of clips (N, 3, 8, 16, 16). `colours` and `path` read single frames."""
    how = Training(steps=500, lr=3e-3, batch=64)
    return trained("clips16", _body, lambda: clips16().all(), FACTORS, how, ("direction",))
