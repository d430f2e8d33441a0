"""Points on a line or in the plane, for demonstrations: `gauss1d`, `bimodal1d`, `lines` and `moons`."""

import math
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset
from gancore.data.toy.gaussians import Mixture

COUNT = 65_536


@cache
def gauss1d(mean: float = 1.0) -> Dataset:
    """65,536 numbers x (N, 1) of N(0, 1) and, drawn independently, "other" (N, 1) of N(mean, 1)."""
    generator = torch.Generator().manual_seed(11)
    x, other = torch.randn(2, COUNT, 1, generator=generator)
    return Dataset(f"gauss1d:{mean:g}", {"x": x, "other": other + mean})


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
    """65,536 points x (N, 2) = (0, u) and "other" (N, 2) = (theta, u'), u and u' uniform in [0, 1] and independent."""
    generator = torch.Generator().manual_seed(13)
    u, v = torch.rand(2, COUNT, generator=generator)
    fields = {"x": torch.stack([torch.zeros(COUNT), u], 1), "other": torch.stack([torch.full((COUNT,), theta), v], 1)}
    return Dataset(f"lines:{theta:g}", fields)


def _moons(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    y = torch.randint(2, (count,), generator=generator)
    t = math.pi * torch.rand(count, generator=generator)
    # The lower moon is the upper one turned by half a circle around (0.5, 0.25), the centre of both.
    sign = 1.0 - 2.0 * y
    x = torch.stack([sign * (t.cos() - 0.5), sign * (t.sin() - 0.25)], 1)
    return x + 0.08 * torch.randn(count, 2, generator=generator), y


@cache
def moons(angle: float = 35.0) -> Dataset:
    """Two moons, centred, noise 0.08: 8,192 source points x (N, 2) with y, and as many of a domain rotated by `angle` degrees.

    "target" (N, 2) and "target_y" (N,) are the rotated domain, drawn independently. `held_out` holds 4,096 of each.
    """
    generator = torch.Generator().manual_seed(14)
    turn = math.radians(angle)
    rotation = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])

    def both(count: int) -> dict[str, Tensor]:
        x, y = _moons(count, generator)
        target, target_y = _moons(count, generator)
        return {"x": x, "y": y, "target": target @ rotation, "target_y": target_y}

    name = f"moons:{angle:g}"
    return Dataset(name, both(8_192), classes=2, held_out=Dataset(f"{name} held out", both(4_096), classes=2))
