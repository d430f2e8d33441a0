"""Generators of images in layers: a background, and before it one object after another (Yang et al. 2017, arXiv:1703.01560)."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore.core import DataSpec
from gancore.nets import dcgan


def transform(image: Tensor, affine: Tensor) -> Tensor:
    """A spatial transformer (Jaderberg et al. 2015, arXiv:1506.02025): images (N, C, H, W) seen through the maps (N, 2, 3) from
    places in the result to places in `image`, both in [-1, 1]. What lies outside is 0."""
    grid = F.affine_grid(affine, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def paste(below: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`image` where the mask (N, 1, H, W) is 1, `below` where it is 0."""
    return mask * image + (1 - mask) * below


class Layers(NamedTuple):
    """An image in the making.

    background: (N, C, H, W). images, masks: of each object in its place, (N, C, H, W) and (N, 1, H, W). result: the image.
    """

    background: Tensor
    images: list[Tensor]
    masks: list[Tensor]
    result: Tensor


class Layered(nn.Module):
    """z (N, latent) to images (N, C, side, side): a background, on which `objects` are pasted one after another.

    The background has the first `background.latent` numbers of z, each object `codes` more. An LSTM over the objects' codes gives
    each a state; one decoder draws image and mask from it, a linear layer places both. An object's frame is at most `extent` of
    the image's side and lies within the image.
    """

    classes = 0

    def __init__(self, spec: DataSpec, objects: int = 1, *, codes: int = 64, hidden: int = 64, extent: float = 0.6) -> None:
        super().__init__()
        self.objects, self.codes, self.shrink = objects, codes, 1 / extent
        self.background = dcgan.Generator(spec)
        self.memory = nn.LSTMCell(codes, hidden)
        self.foreground = dcgan.Generator(replace(spec, shape=(spec.shape[0] + 1, *spec.shape[1:])), latent=hidden)
        self.place = nn.Linear(hidden, 6)
        self.latent = self.background.latent + objects * codes

    def affine(self, state: Tensor) -> Tensor:
        """Maps (N, 2, 3) from places in the image to places in the object's frame, for states (N, hidden)."""
        scale, shear, shift = self.place(state).split(2, 1)
        scale = self.shrink + F.softplus(scale - 3)
        # Within the image as long as the frame is upright.
        shift = torch.tanh(shift) * (scale - 1)
        first = torch.stack([scale[:, 0], shear[:, 0], shift[:, 0]], 1)
        return torch.stack([first, torch.stack([shear[:, 1], scale[:, 1], shift[:, 1]], 1)], 1)

    def layers(self, z: Tensor) -> Layers:
        """All parts of the images."""
        code, *codes = z.split([self.background.latent, *[self.codes] * self.objects], 1)
        result = background = self.background(code)
        state, images, masks = None, [], []
        for code in codes:
            state = self.memory(code, state)
            drawn = transform(torch.cat(self.draw(state[0]), 1), self.affine(state[0]))
            images.append(drawn[:, :-1])
            masks.append(drawn[:, -1:])
            result = paste(result, images[-1], masks[-1])
        return Layers(background, images, masks, result)

    def draw(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """An object in its own frame: image in (-1, 1) and mask in (0, 1)."""
        drawn = self.foreground(state)
        return drawn[:, :-1], (1 + drawn[:, -1:]) / 2

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).result
