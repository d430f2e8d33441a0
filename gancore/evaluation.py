"""Figures of a run's samples against its data: what the log shows while it trains, and what `gancore evaluate` prints."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gancore.core import DataError, UsageError
from gancore.data import Dataset, oracle

Sampler = Callable[[int], Tensor]
_REAL = 10_000


def tensor_of(samples: Tensor | dict[str, Tensor]) -> Tensor:
    """The samples themselves, where a recipe draws several columns."""
    return samples if isinstance(samples, Tensor) else samples["x"]


def judge(dataset: Dataset) -> Any | None:
    """The oracle of a toy set, None for a set that has none."""
    try:
        return oracle(dataset.name)
    except DataError:
        return None


def judge_accuracy(dataset: Dataset) -> dict[str, float]:
    """{"judge-accuracy": share of held-out images that the data set's judge reads right}, or nothing where no network judges.

    For a judge of several factors, the least certain one counts.
    """
    shares = getattr(judge(dataset), "test_accuracy", None)
    return {"judge-accuracy": min(shares.values())} if shares else {}


@torch.no_grad()
def scores(sample: Sampler, dataset: Dataset, count: int = 2000) -> dict[str, float]:
    """Figures of `count` samples, by kind of data.

    Gaussian mixtures: modes covered and share of high-quality samples. Sets with a feature network: inception score, FID against
    the data and the number of classes that hold 1 % of the samples. Others: none.
    """
    judged_by = judge(dataset)
    if judged_by is None:
        return {}
    if hasattr(judged_by, "quality"):
        return {name: float(value) for name, value in judged_by.quality(sample(2 * count).cpu()).items()}
    if hasattr(judged_by, "probabilities"):
        return _image_scores(sample(count).float().cpu(), dataset, judged_by)
    return {}


@torch.no_grad()
def measure(metrics: Sequence[str], samples: Tensor, dataset: Dataset, seed: int = 0) -> dict[str, float]:
    """Metrics by their ids of samples (N, ...) against the data, at most 10,000 rows of it, drawn by `seed`.

    A metric is given what its parameters name: "x" the samples, "y" the data, "network" the judge of the data set where it has
    one, and any field of that judge, such as "centres". A result of several numbers gives "<id>.<field>" for each.
    Raises UsageError where something is missing or does not suit.
    """
    from gancore.recipes import get

    judged_by = judge(dataset)
    network = judged_by if hasattr(judged_by, "features") else None
    real = dataset.to("cpu")
    rows = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:_REAL]
    have = {"x": samples.float().cpu(), "y": real.take(rows)["x"], "network": network}
    found: dict[str, float] = {}
    for entry in [get(name, "metric") for name in metrics]:
        given = {}
        for name, parameter in entry.parameters().items():
            if name in have:
                given[name] = have[name]
            elif hasattr(judged_by, name):
                given[name] = getattr(judged_by, name)
            elif parameter.default is inspect.Parameter.empty:
                raise UsageError(f"{entry.id} needs {name}, which {dataset.name} does not give")
        try:
            result = entry.function(**given)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{entry.id} does not suit {dataset.name}: {error}") from error
        parts = result._asdict() if hasattr(result, "_asdict") else None
        found |= {f"{entry.id}.{k}": float(v) for k, v in parts.items()} if parts else {entry.id: float(result)}
    return found


def _image_scores(images: Tensor, dataset: Dataset, network: Any) -> dict[str, float]:
    from gancore.metrics import fid, inception_score

    probabilities = network.probabilities(images)
    share = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(images)
    real = dataset.to("cpu").all()["x"]
    return {
        "inception-score": inception_score(probabilities)[0],
        "fid": fid(network.features(images), network.features(real)),
        "classes": float((share >= 0.01).sum()),
        "smallest-class": float(share.min()),
    }
