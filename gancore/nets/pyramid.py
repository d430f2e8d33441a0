"""Laplacian pyramids (Burt and Adelson 1983) and generators of their bands (Denton et al. 2015, arXiv:1506.05751)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore import nets
from gancore.core import DataSpec, UsageError
from gancore.layers import OneHot

WIDTH = 64


def down(x: Tensor) -> Tensor:
    """Blurred by the taps (1, 3, 3, 1) / 8 and halved: (N, C, 2H, 2W) -> (N, C, H, W)."""
    return F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)


def up(x: Tensor) -> Tensor:
    """Doubled, bilinear: (N, C, H, W) -> (N, C, 2H, 2W). What it makes lies in the range of x."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def split(x: Tensor, levels: int) -> list[Tensor]:
    """The pyramid of images: `levels` - 1 band-passed images, finest first, and the coarse rest. `merge` undoes it."""
    bands = []
    for _ in range(levels - 1):
        coarse = down(x)
        bands.append(x - up(coarse))
        x = coarse
    return [*bands, x]


def merge(bands: Sequence[Tensor]) -> Tensor:
    """Images of a pyramid."""
    x = bands[-1]
    for band in reversed(bands[:-1]):
        x = up(x) + band
    return x


class Band(nn.Module):
    """A plane of noise z (N, H W), an image without its finest detail (N, C, H, W) and, if conditional, labels (N,) to that detail
    (N, C, H, W)."""

    def __init__(self, spec: DataSpec, conditional: str = "") -> None:
        super().__init__()
        channels, width = spec.shape[0], spec.width or WIDTH
        self.latent = spec.shape[1] * spec.shape[2]
        self.condition = OneHot(spec.classes) if conditional else None
        sizes = [(channels + 1 + (spec.classes if conditional else 0), width), (width, width), (width, channels)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 5, 1, 2) for a, b in sizes)

    def forward(self, z: Tensor, smooth: Tensor, y: Tensor | None = None) -> Tensor:
        x = torch.cat([smooth, z.view(-1, 1, *smooth.shape[2:])], 1)
        x = x if self.condition is None else self.condition(x, y)
        for conv in self.convs[:-1]:
            x = F.relu(conv(x))
        return self.convs[-1](x)


class BandCritic(nn.Module):
    """Details and the smooth images that they belong to, both (N, C, H, W), and, if conditional, labels (N,) to scores (N,)."""

    def __init__(self, spec: DataSpec, conditional: str = "") -> None:
        super().__init__()
        spec = replace(spec, shape=(2 * spec.shape[0], *spec.shape[1:]), net="dcgan")
        self.body = nets.critic(spec, norm=False, conditional=conditional)

    def forward(self, detail: Tensor, smooth: Tensor, *labels: Tensor) -> Tensor:
        return self.body(torch.cat([detail + smooth, smooth], 1), *labels)


def sizes(spec: DataSpec, levels: int) -> list[DataSpec]:
    """What each level of a pyramid is, finest first; channels double where sides halve. A coarsest side below 8 is for an MLP."""
    if len(spec.shape) != 3 or spec.shape[1] % 2 ** (levels - 1) or spec.shape[2] % 2 ** (levels - 1):
        raise UsageError(f"a pyramid of {levels} levels needs images whose sides 2^{levels - 1} divides; got shape {spec.shape}")
    channels, height, width = spec.shape
    base = spec.width or WIDTH
    fine = [replace(spec, shape=(channels, height >> k, width >> k), width=base << k) for k in range(levels)]
    return fine if min(fine[-1].shape[1:]) >= 8 else [*fine[:-1], replace(fine[-1], net="toy", width=0)]


class Pyramid(nn.Module):
    """Generators of all levels as one: z (N, latent) and, if conditional, labels (N,) to images, from the coarsest up, each given
    what those before it made.

    `members` are the generators, finest first; `latent` counts the noise of all of them. conditional: "" or "concat".
    """

    def __init__(self, spec: DataSpec, levels: int, conditional: str = "") -> None:
        super().__init__()
        *bands, coarse = sizes(spec, levels)
        coarsest = nets.generator(coarse, conditional=conditional)
        self.classes: int = coarsest.classes  # type: ignore[assignment]
        self.members = nn.ModuleList([*(Band(s, conditional) for s in bands), coarsest])
        self.sizes: list[int] = [g.latent for g in self.members]  # type: ignore[misc]
        self.latent = sum(self.sizes)

    def noise(self, z: Tensor) -> Sequence[Tensor]:
        """Each level's part of z, finest first."""
        return z.split(self.sizes, 1)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        *planes, code = self.noise(z)
        x = self.members[-1](code, *labels)
        for band, plane in zip(reversed(self.members[:-1]), reversed(planes), strict=True):
            x = up(x)
            x = x + band(plane, x, *labels)
        return x.clamp(-1, 1)


class PyramidCritic(nn.Module):
    """One critic for each level of a pyramid, `members`, finest first."""

    def __init__(self, spec: DataSpec, levels: int, conditional: str = "") -> None:
        super().__init__()
        *bands, coarse = sizes(spec, levels)
        coarsest = nets.critic(coarse, conditional=conditional)
        self.members = nn.ModuleList([*(BandCritic(s, conditional) for s in bands), coarsest])
