"""Points on a line or in the plane, for demonstrations: `gauss1d`, `bimodal1d`, `lines` and `moons`."""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset
from gancore.data.toy.gaussians import Mixture

COUNT = 65_536


@cache
def gauss1d(mean: float = 1.0) -> Dataset:
    """65,536 numbers x (N, 1) of N(0, 1); part "other": as many, drawn independently, of N(mean, 1)."""
    generator = torch.Generator().manual_seed(11)
    x, other = torch.randn(2, COUNT, 1, generator=generator)
    name = f"gauss1d:{mean:g}"
    return Dataset(name, {"x": x}, parts={"other": Dataset(f"{name} other", {"x": other + mean})})


@cache
def bimodal1d_oracle() -> Mixture:
    """Two modes at -3 and 3, sigma 0.7."""
    return Mixture(torch.tensor([[-3.0], [3.0]]), 0.7)


@cache
def bimodal1d() -> Dataset:
    """65,536 numbers x (N, 1) of the even mixture of N(-3, 0.7²) and N(3, 0.7²), y the mode."""
    generator = torch.Generator().manual_seed(12)
    mixture = bimodal1d_oracle()
    y = torch.randint(2, (COUNT,), generator=generator)
    x = mixture.centres[y] + mixture.sigma * torch.randn(COUNT, 1, generator=generator)
    return Dataset("bimodal1d", {"x": x, "y": y}, classes=2)


@cache
def lines(theta: float = 1.0) -> Dataset:
    """65,536 points x (N, 2) = (0, u); part "other": as many of (theta, u'). u and u' are uniform in [0, 1] and independent."""
    generator = torch.Generator().manual_seed(13)
    u, v = torch.rand(2, COUNT, generator=generator)
    name = f"lines:{theta:g}"
    other = Dataset(f"{name} other", {"x": torch.stack([torch.full((COUNT,), theta), v], 1)})
    return Dataset(name, {"x": torch.stack([torch.zeros(COUNT), u], 1)}, parts={"other": other})


def _moons(y: Tensor, angle: float, generator: torch.Generator) -> Tensor:
    t = math.pi * torch.rand(len(y), generator=generator)
    # The lower moon is the upper one turned by half a circle around (0.5, 0.25), the centre of both.
    sign = 1.0 - 2.0 * y
    x = torch.stack([sign * (t.cos() - 0.5), sign * (t.sin() - 0.25)], 1)
    turn = math.radians(angle)
    rotation = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return (x + 0.08 * torch.randn(len(y), 2, generator=generator)) @ rotation


@cache
def moons(angle: float = 35.0) -> Dataset:
    """Two moons, centred, noise 0.08: 8,192 points x (N, 2) with their moon y.

    Parts: "target", 8,192 others turned counter-clockwise by `angle` degrees; "labelled", three of each moon, and "unlabelled",
    1,000, not turned. `held_out` holds 4,096 points and as many of the target.
    """
    generator = torch.Generator().manual_seed(14)
    name = f"moons:{angle:g}"

    def draw(suffix: str, y: int | Tensor, turn: float = 0.0) -> Dataset:
        y = torch.randint(2, (y,), generator=generator) if isinstance(y, int) else y
        return Dataset(name + suffix, {"x": _moons(y, turn, generator), "y": y}, classes=2)

    parts = {"target": draw(" target", 8_192, angle), "labelled": draw(" labelled", torch.tensor([0, 1] * 3))}
    parts["unlabelled"] = draw(" unlabelled", 1_000)
    held_out = replace(draw(" held out", 4_096), parts={"target": draw(" held out target", 4_096, angle)})
    return replace(draw("", 8_192), held_out=held_out, parts=parts)
