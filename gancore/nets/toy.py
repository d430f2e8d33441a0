"""MLPs for vectors and small images: three hidden layers of 128 units, LeakyReLU(0.2) unless told otherwise."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore.core import DataSpec, UsageError
from gancore.layers import OneHot

WIDTH, DEPTH = 128, 3


class Mlp(nn.Module):
    """Linear layers of the given sizes with LeakyReLU(slope) between them: (N, sizes[0]) -> (N, sizes[-1])."""

    def __init__(self, sizes: Sequence[int], slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes[:-1]))
        self.head = nn.Linear(sizes[-2], sizes[-1])

    def features(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer (N, sizes[-2])."""
        for layer in self.hidden:
            x = F.leaky_relu(layer(x), self.slope)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Generator(nn.Module):
    """z (N, latent), and labels (N,) if conditional, to samples; images end in tanh."""

    def __init__(self, spec: DataSpec, *, latent: int = 0, classes: int = 0, how: str = "", depth: int = DEPTH) -> None:
        super().__init__()
        if how == "norm":
            raise UsageError('the toy body has no normalisation that labels could enter: use conditioning "concat", or net="dcgan"')
        self.shape, self.classes = spec.shape, classes
        self.latent = latent or (8 if len(spec.shape) == 1 else 32)
        self.condition = OneHot(classes) if classes else None
        width = spec.width or WIDTH
        self.body = Mlp([self.latent + classes, *[width] * depth, math.prod(spec.shape)])

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.body(z if self.condition is None else self.condition(z, y)).view(-1, *self.shape)
        return torch.tanh(x) if len(self.shape) > 1 else x


class Critic(nn.Module):
    """Samples, and labels (N,) if conditional, to scores (N,)."""

    separate = False  # no statistics are shared by a batch, so data and fakes may go through together

    def __init__(
        self, spec: DataSpec, *, classes: int = 0, how: str = "concat", norm: bool = True, depth: int = DEPTH, outputs: int = 1,
        width: int = WIDTH, slope: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        width = spec.width or width
        self.condition = OneHot(classes) if classes and how == "concat" else None
        self.projection = nn.Embedding(classes, width) if classes and how == "projection" else None
        inputs = math.prod(spec.shape) + (classes if self.condition is not None else 0)
        self.body = Mlp([inputs, *[width] * depth, outputs], slope)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Activations of the last hidden layer (N, width)."""
        x = x.flatten(1)
        return self.body.features(x if self.condition is None else self.condition(x, y))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.score(self.features(x, y), y)

    @property
    def hyperplane(self) -> Tensor:
        """Weights of the last layer, which separate real from fake."""
        return self.body.head.weight

    def score(self, features: Tensor, y: Tensor | None = None) -> Tensor:
        """Scores (N,), or (N, outputs), from the last hidden layer."""
        score = self.body.head(features).squeeze(-1)
        return score if self.projection is None else score + (self.projection(y) * features).sum(1)


class Encoder(nn.Module):
    """Samples to `codes` numbers (N, codes)."""

    separate = False

    def __init__(self, spec: DataSpec, codes: int, *, depth: int = DEPTH) -> None:
        super().__init__()
        self.body = Mlp([math.prod(spec.shape), *[spec.width or WIDTH] * depth, codes])

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(1))
