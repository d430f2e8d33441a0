"""Small recipes, data and comparisons for the tests of the core."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gancore.core import DataSpec, Field, Options, Phase, Recipe, Stage, sgd
from gancore.data import Dataset
from gancore.trainer import Trainer

CPU = torch.device("cpu")


def vectors(count: int = 64, features: int = 2, classes: int = 4) -> Dataset:
    """Gaussian rows "x", row numbers "row", labels "y" in equal shares."""
    x = torch.randn(count, features, generator=torch.Generator().manual_seed(5))
    return Dataset("vectors", {"x": x, "row": torch.arange(count), "y": torch.arange(count) % classes}, classes)


def images(side: int = 16, channels: int = 1, count: int = 32, classes: int = 4) -> Dataset:
    """Random pixels with labels."""
    pixels = torch.randint(256, (count, channels, side, side), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Dataset("images", {"x": pixels, "y": torch.arange(count) % classes}, classes)


def trainer(recipe: Recipe, data: Dataset | None = None, *, width: int = 8, net: str = "", **options: Any) -> Trainer:
    """A trainer on the CPU with small nets and batches of 8."""
    data = vectors() if data is None else data
    settings = {"steps": 6, "batch_size": 8, **options}
    net = net or ("dcgan" if data.is_image and data.shape[-1] > 8 else "toy")
    return Trainer(recipe, data, Options(**settings), DataSpec(data.shape, data.classes, net, width), CPU)


def go(run: Trainer, steps: int) -> Trainer:
    """Take steps under the run's own random state."""
    with run.random():
        for _ in range(steps):
            run.step()
    return run


def plain(
    players: Callable[[], Mapping[str, nn.Module]], *phases: Phase, lr: float = 0.1, stages: list[Stage] | None = None, **more: Any
) -> Recipe:
    """A recipe of given players under SGD and phases, on the column x; nothing is sampled."""
    settings: dict[str, Any] = {"data": {"x": Field("x")}, "ema": (), "sample": None, **more}
    if "optims" not in settings:
        updated = {player for stage in stages or [Stage("only", 1.0, phases)] for phase in stage.phases for player in phase.updates}
        settings["optims"] = {player: sgd(lr) for player in updated}
    return Recipe(lambda spec: players(), stages=stages or [Stage("only", 1.0, phases)], **settings)


class Scalar(nn.Module):
    """A player of one number: a multiplier, or a probe."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self) -> Tensor:
        return self.value


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by their path."""
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {name: tree}
    return {key: leaf for k, v in items for key, leaf in flat(v, f"{name}/{k}").items()}


def differing(a: Any, b: Any) -> list[str]:
    """Paths of the leaves of two trees that are not equal bit for bit."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys(), sorted(a.keys() ^ b.keys())
    return [k for k in a if not (torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])]


def weights(run: Trainer) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {name: p.detach().clone() for name, p in run.nets.named_parameters()}
