"""Figures of a run's samples against its data: what the log shows while it trains, and what `gancore evaluate` prints."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gancore.core import DataError
from gancore.data import Dataset, oracle

Sampler = Callable[[int], Tensor]


def judge(dataset: Dataset) -> Any | None:
    """The oracle of a toy set, None for a set that has none."""
    try:
        return oracle(dataset.name)
    except DataError:
        return None


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
