"""Acceptance of recipes: SYSTEMS rows as clauses, each a figure with the bound it must meet.

A recipe's file in tests/recipes holds quick tests, which `make test` runs, and `accept(seed)`, which trains and which `make accept`
runs for seeds 0 and 1. A check sets public options only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

import gancore
from gancore.core import DataSpec, Field, Options, Recipe, noise
from gancore.data import Dataset
from gancore.runs import Run
from gancore.trainer import Trainer

SEEDS = (0, 1)
LIMIT = 150.0  # processor seconds for one recipe and seed, controls extra

RING = {"data": "ring8", "net": "toy", "steps": 3000, "batch_size": 256, "lr": 1e-3, "schedule": "linear", "ema": 0.995}
DIG = {"data": "digits8", "net": "toy", "steps": 3000, "batch_size": 128}


@dataclass(frozen=True)
class Clause:
    """A figure, what was wanted of it, and whether it is so."""

    name: str
    value: float
    wanted: str
    passed: bool

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "value": round(self.value, 6)}


def at_least(name: str, value: float, bound: float) -> Clause:
    """value >= bound."""
    return Clause(name, float(value), f">= {bound:g}", bool(value >= bound))


def at_most(name: str, value: float, bound: float) -> Clause:
    """value <= bound."""
    return Clause(name, float(value), f"<= {bound:g}", bool(value <= bound))


def between(name: str, value: float, low: float, high: float) -> Clause:
    """low <= value <= high."""
    return Clause(name, float(value), f"{low:g} .. {high:g}", bool(low <= value <= high))


def quiet(options: dict[str, Any]) -> dict[str, Any]:
    """Options with one evaluation, at the end."""
    return {"save_every": options["steps"], "log_every": 50, **options}


def ring(name: str, quality: float, seed: int, modes: int = 7, **options: Any) -> tuple[Run, list[Clause]]:
    """RING(quality) of SYSTEMS section 0."""
    run = gancore.train(name, seed=seed, **quiet({**RING, **options}))
    scores = run.evaluate()
    return run, [at_least("modes of ring8", scores["modes"], modes), at_least("high-quality share", scores["hq"], quality)]


def dig(name: str, fid: float, classes: int, seed: int, **options: Any) -> tuple[Run, list[Clause]]:
    """DIG(fid, classes) of SYSTEMS section 0."""
    run = gancore.train(name, seed=seed, **quiet({**DIG, **options}))
    scores = run.evaluate(1797)
    return run, [at_most("feature FID on digits8", scores["fid"], fid), at_least("digit classes", scores["classes"], classes)]


class Shift(torch.nn.Module):
    """A frozen generator N(mean, 1) of one number, for checks of optimal critics."""

    latent, classes = 1, 0

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(mean))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.mean


def critic_alone(recipe: Recipe, mean: float, seed: int, steps: int = 2000) -> Trainer:
    """The recipe's critic trained on N(0, 1) against a generator frozen at N(mean, 1); returns the trainer."""
    def nets(spec: DataSpec) -> dict[str, torch.nn.Module]:
        return {**recipe.nets(spec), "G": Shift(mean)}

    stages = [replace(stage, phases=[p for p in stage.phases if "G" not in p.updates]) for stage in recipe.stages]
    alone = replace(recipe, nets=nets, stages=stages, data={"x": Field("x"), "z": noise("G")}, ema=())
    rows = Dataset("normal", {"x": torch.randn(200_000, 1, generator=torch.Generator().manual_seed(seed))})
    options = Options(steps=steps, batch_size=1024, seed=seed, schedule="cosine")
    trainer = Trainer(alone, rows, options, DataSpec((1,)), torch.device("cpu"))
    with trainer.random():
        for _ in range(steps):
            trainer.step()
    return trainer


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A random state of its own."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield
