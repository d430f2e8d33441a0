"""DCGAN (Radford et al. 2016, arXiv:1511.06434) for square images of side 4 * 2^k and any number of channels.

Fractionally strided convolutions of kernel 4, batch normalisation except in G's last and D's first layer, ReLU in G and tanh at its
end, LeakyReLU(0.2) in D, no pooling and no hidden dense layer, weights from N(0, 0.02^2).
"""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from gancore.core import DataSpec, UsageError
from gancore.layers import ConditionalBatchNorm, OneHot, Unit, run

WIDTH, LATENT = 64, 100


def _doublings(spec: DataSpec) -> int:
    side = spec.shape[-1]
    levels = math.log2(side / 4) if side >= 8 else 0.5
    if len(spec.shape) != 3 or spec.shape[1] != side or levels != int(levels):
        raise UsageError(
            f"the dcgan body needs square images whose side is 4 times a power of two, 8 or more; got shape {spec.shape}"
        )
    return int(levels)


def initialise(module: nn.Module) -> None:
    """The paper's weights: N(0, 0.02^2), scales of batch normalisation N(1, 0.02^2), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """z (N, latent), and labels (N,) if conditional, to images (N, C, side, side) in (-1, 1).

    how: labels enter as a one-hot part of z ("concat") or through the scale and shift of every normalisation ("norm").
    """

    def __init__(self, spec: DataSpec, *, latent: int = 0, classes: int = 0, how: str = "", norm: bool = True) -> None:
        super().__init__()
        self.latent, self.classes = latent or LATENT, classes
        levels, width = _doublings(spec), spec.width or WIDTH
        self.condition = OneHot(classes) if classes and how == "concat" else None
        self.by_norm = bool(classes) and how == "norm"
        channels = [width * 2 ** (levels - 1 - i) for i in range(levels)]
        inputs = [self.latent + (classes if self.condition is not None else 0), *channels[:-1]]
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False)
            for i, (a, b) in enumerate(zip(inputs, channels, strict=True))
        )
        plain = nn.BatchNorm2d if norm else nn.Identity
        self.norms = nn.ModuleList(ConditionalBatchNorm(c, classes) if self.by_norm else plain(c) for c in channels)
        self.last = nn.ConvTranspose2d(channels[-1], spec.shape[0], 4, 2, 1)
        initialise(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x = (z if self.condition is None else self.condition(z, y))[:, :, None, None]
        layers = list(zip(self.convs, self.norms, strict=True))
        if self.by_norm:
            for conv, norm in layers:
                x = F.relu(norm(conv(x), y))
            layers = []
        return run(x, [*(Unit(conv, norm, "relu") for conv, norm in layers), Unit(self.last, act="tanh")])


class _Tower(nn.Module):
    """Images to features (N, channels, 4, 4)."""

    def __init__(self, spec: DataSpec, inputs: int, norm: bool) -> None:
        super().__init__()
        levels, width = _doublings(spec), spec.width or WIDTH
        channels = [inputs, *[width * 2**i for i in range(levels)]]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=i == 0 or not norm) for i, (a, b) in enumerate(pairwise(channels)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norm and i else nn.Identity() for i, c in enumerate(channels[1:]))
        self.channels = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            plain = isinstance(norm, nn.Identity)
            x = run(x, [Unit(conv, act="leaky_relu")]) if plain else F.leaky_relu(norm(conv(x)), 0.2)
        return x


class Critic(nn.Module):
    """Images (N, C, side, side), and labels (N,) if conditional, to scores (N,).

    how: labels enter as constant channels ("concat") or by the projection of Miyato and Koyama 2018 ("projection").
    """

    def __init__(self, spec: DataSpec, *, classes: int = 0, how: str = "concat", norm: bool = True, outputs: int = 1) -> None:
        super().__init__()
        self.classes, self.separate = classes, norm
        self.condition = OneHot(classes) if classes and how == "concat" else None
        self.tower = _Tower(spec, spec.shape[0] + (classes if self.condition is not None else 0), norm)
        self.last = nn.Conv2d(self.tower.channels, outputs, 4)
        self.projection = nn.Embedding(classes, self.tower.channels) if classes and how == "projection" else None
        initialise(self)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Activations of the last hidden layer (N, channels, 4, 4)."""
        return self.tower(x if self.condition is None else self.condition(x, y))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.score(self.features(x, y), y)

    @property
    def hyperplane(self) -> Tensor:
        """Weights of the last layer, which separate real from fake."""
        return self.last.weight

    def score(self, features: Tensor, y: Tensor | None = None) -> Tensor:
        """Scores (N,), or (N, outputs), from the last hidden layer."""
        score = self.last(features).flatten(1).squeeze(-1)
        return score if self.projection is None else score + (self.projection(y) * features.sum((2, 3))).sum(1)


class Encoder(nn.Module):
    """Images to `codes` numbers (N, codes): the critic's tower with a wider last convolution."""

    def __init__(self, spec: DataSpec, codes: int, *, norm: bool = True) -> None:
        super().__init__()
        self.tower = _Tower(spec, spec.shape[0], norm)
        self.last = nn.Conv2d(self.tower.channels, codes, 4)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.tower(x)).flatten(1)
