"""Inception score (Salimans et al. 2016, arXiv:1606.03498): exp(E_x KL(p(y|x) ‖ p(y))), confident and diverse at once."""

import torch
from torch import Tensor

from gancore.core import metric
from gancore.metrics._inputs import FeatureNetwork, Score, probabilities


@metric
def inception_score(x: Tensor, splits: int = 10, *, network: FeatureNetwork | None = None, batch: int = 256) -> Score:
    """exp(mean_x KL(p(y|x) ‖ p(y))) of each of `splits` consecutive parts: mean and standard deviation over the parts.

    x: class probabilities (N, K), or images (N, C, H, W) in [-1, 1] with `network`. The parts are consecutive, as published:
    samples sorted by class would fill each part with one class. Between 1 and K; p(y) is each part's own mean, so small parts
    score too low. It does not see a generator that knows one image per class.
    Raises ValueError on fewer than `splits` samples and on rows that are no probabilities.
    """
    if splits < 1:
        raise ValueError(f"splits: wants at least 1, got {splits}")
    p = probabilities("x", x, network, batch, at_least=splits)
    scores = torch.stack([_score(part) for part in p.tensor_split(splits)])
    return Score(float(scores.mean()), float(scores.std(correction=0)))


def _score(p: Tensor) -> Tensor:
    marginal = p.mean(0)
    return (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1).mean().exp()
