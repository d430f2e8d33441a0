"""Judges of image sets: small classifiers, trained in seconds and cached, that read the factors of an image."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore.data.cache import cached

FEATURES = 64


class Classifier(nn.Module):
    """Reads images (N, C, H, W) in [-1, 1]. Frozen; gradients with respect to the images flow.

    factors: number of values of each factor. label: the factors that make up the class, the last one changing fastest.
    test_accuracy: share of right answers for each factor on images that training did not see.
    """

    def __init__(self, body: nn.Module, factors: Mapping[str, int], label: Sequence[str]) -> None:
        super().__init__()
        self.body = body
        self.sizes = dict(factors)
        self.label = tuple(label)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in factors.items()})
        self.test_accuracy: dict[str, float] = {}

    @property
    def classes(self) -> int:
        """Number of classes that `predict` tells apart."""
        return math.prod(self.sizes[name] for name in self.label)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (N, 64)."""
        found: Tensor = self.body(x)
        return found

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits (N, values) of each factor."""
        features = self.features(x)
        return {name: head(features) for name, head in self.heads.items()}

    def factors(self, x: Tensor) -> dict[str, Tensor]:
        """Most probable value (N,) of each factor."""
        return {name: logits.argmax(1) for name, logits in self.logits(x).items()}

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, classes), factors taken as independent given the image."""
        logits = self.logits(x)
        parts = [logits[name].softmax(1) for name in self.label]
        return reduce(lambda joint, part: (joint[:, :, None] * part[:, None, :]).flatten(1), parts)

    def predict(self, x: Tensor) -> Tensor:
        """Most probable class (N,)."""
        return self.probabilities(x).argmax(1)

    def forward(self, x: Tensor) -> Tensor:
        """Class probabilities, as `probabilities`."""
        return self.probabilities(x)


def convolutions(channels: int) -> nn.Module:
    """The common body, from images (N, channels, 16, 16) to 64 features."""
    # The second one does not stride: two strides in a row blur corners, and small squares pass for discs.
    layers = [nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, FEATURES), nn.ReLU())


@dataclass(frozen=True)
class Training:
    """How a judge is trained: Adam, the learning rate falling to zero along a half cosine, Gaussian `noise` on the images."""

    steps: int
    lr: float
    batch: int = 128
    weight_decay: float = 0.0
    noise: float = 0.0
    seed: int = 0


def _fit(net: Classifier, x: Tensor, targets: Mapping[str, Tensor], how: Training) -> None:
    optimizer = torch.optim.Adam(net.parameters(), how.lr, weight_decay=how.weight_decay)
    for step in range(how.steps):
        optimizer.param_groups[0]["lr"] = how.lr * 0.5 * (1 + math.cos(math.pi * step / how.steps))
        rows = torch.randint(len(x), (how.batch,))
        images = x[rows]
        if how.noise:
            images = images + how.noise * torch.randn_like(images)
        logits = net.logits(images)
        loss = torch.stack([F.cross_entropy(logits[name], targets[name][rows]) for name in logits]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def accuracy(net: Classifier, x: Tensor, targets: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of right answers for each factor on images x (N, C, H, W) with targets name -> (N,)."""
    with torch.no_grad():
        found = net.factors(x)
    return {name: float((found[name] == target).float().mean()) for name, target in targets.items()}


def trained(
    name: str,
    body: Callable[[], nn.Module],
    data: Callable[[], Mapping[str, Tensor]],
    factors: Mapping[str, int],
    how: Training,
    label: Sequence[str],
    held_out: float = 0.2,
) -> Classifier:
    """A classifier of the named factors, trained on all but a share `held_out` of the data, which gives its test accuracy.

    data: "x" float32 images in [-1, 1] and one int64 column (N,) for each factor. The module that defines `body` is part of
    the cache's key. The global random state is left as it was.
    """

    def build() -> dict[str, object]:
        columns = data()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(how.seed)
            net = Classifier(body(), factors, label)
            order = torch.randperm(len(columns["x"]))
            cut = round(len(order) * held_out)
            test, train = order[:cut], order[cut:]
            _fit(net, columns["x"][train], {key: columns[key][train] for key in factors}, how)
        net.eval()
        score = accuracy(net, columns["x"][test], {key: columns[key][test] for key in factors})
        return {"weights": net.state_dict(), "accuracy": score}

    found = cached(name, [sys.modules[__name__], sys.modules[body.__module__]], build)
    with torch.random.fork_rng(devices=[]):
        net = Classifier(body(), factors, label)
    net.load_state_dict(found["weights"])
    net.test_accuracy = dict(found["accuracy"])
    return net.eval().requires_grad_(False)
