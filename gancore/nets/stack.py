"""A classifier in two parts and the generators and critics that go down it again (Huang et al. 2017, arXiv:1612.04357)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore import nets
from gancore.core import DataSpec

FEATURES = 64


def _plain(spec: DataSpec) -> dict[str, Any]:
    # A frozen network must not go on counting statistics, and those of a batch would tie its samples together.
    return {"norm": False} if spec.net != "toy" else {}


def _upper(spec: DataSpec, features: int) -> DataSpec:
    return replace(spec, shape=(features,), net="toy")


class Classifier(nn.Module):
    """Samples to logits (N, classes), by way of `features` numbers."""

    def __init__(self, spec: DataSpec, features: int = FEATURES) -> None:
        super().__init__()
        self.encoder = nets.encoder(spec, features, **_plain(spec))
        self.head = nn.Linear(features, spec.classes)

    def features(self, x: Tensor) -> Tensor:
        """Activations below the last layer (N, features)."""
        return F.leaky_relu(self.encoder(x), 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Stack(nn.Module):
    """z (N, latent) and labels (N,) to samples, down a classifier: `upper` draws features for a label, `lower` a sample for those.

    Each has its part of z, which `noise` gives.
    """

    def __init__(self, spec: DataSpec, codes: int, features: int = FEATURES) -> None:
        super().__init__()
        self.upper = nets.generator(_upper(spec, features), latent=codes, conditional="concat")
        self.lower = nets.generator(spec, latent=features + codes)
        self.latent, self.classes = 2 * codes, spec.classes

    def noise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The upper and the lower generator's part of z."""
        upper, lower = z.chunk(2, 1)
        return upper, lower

    def features(self, z: Tensor, y: Tensor) -> Tensor:
        """Features (N, features) for labels y and the upper part of z."""
        return F.leaky_relu(self.upper(z, y), 0.2)

    def samples(self, z: Tensor, features: Tensor) -> Tensor:
        """Samples for features and the lower part of z."""
        return self.lower(torch.cat([features, z], 1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        upper, lower = self.noise(z)
        return self.samples(lower, self.features(upper, y))


class Reader(nn.Module):
    """A critic that also reads the code: inputs to scores (N,) and codes (N, codes), two outputs of one trunk."""

    def __init__(self, spec: DataSpec, codes: int) -> None:
        super().__init__()
        self.trunk = nets.critic(spec, outputs=1 + codes, **_plain(spec))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.trunk(x)
        return found[:, 0], found[:, 1:]


class StackCritic(nn.ModuleDict):
    """A Reader for features, "upper", and one for samples, "lower"."""

    def __init__(self, spec: DataSpec, codes: int, features: int = FEATURES) -> None:
        super().__init__({"upper": Reader(_upper(spec, features), codes), "lower": Reader(spec, codes)})


class Level(NamedTuple):
    """One generator's part in a batch.

    fake: what it made of its part `z` (N, codes) of the noise. distance: (N,), how far the classifier finds that from what it was
    made for: cross-entropy for labels, mean squared error for features.
    """

    name: str
    real: Tensor
    fake: Tensor
    z: Tensor
    distance: Tensor


def levels(classifier: Classifier, stack: Stack, batch: Mapping[str, Tensor], joint: bool) -> Iterator[Level]:
    """The upper and the lower level for data "x", "y" and noise "z". joint: the lower one is given the upper one's features
    instead of the data's."""
    (upper, lower), h = stack.noise(batch["z"]), classifier.features(batch["x"])
    g = stack.features(upper, batch["y"])
    yield Level("upper", h, g, upper, F.cross_entropy(classifier.head(g), batch["y"], reduction="none"))
    given = g if joint else h
    x = stack.samples(lower, given)
    yield Level("lower", batch["x"], x, lower, (classifier.features(x) - given).square().mean(1))
