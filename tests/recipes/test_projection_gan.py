"""projection-gan: what `make train` runs. On 16x16 digits, judged by their network: classes, quality, closeness, no memory."""

import torch

import gancore
from gancore import evaluation
from gancore.core import DataSpec
from gancore.metrics import fid
from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, quiet, seeded

DIGITS = {"data": "digits", "size": 16, "width": 32, "steps": 1500, "batch_size": 64}


def accept(seed: int) -> list[Clause]:
    run = gancore.train("projection-gan", seed=seed, **quiet(DIGITS))
    network, images = evaluation.judge(run.data), run.data.all()["x"]
    labels = torch.arange(2000) % 10
    samples = run.sample(2000, y=labels)
    with seeded(seed):
        halves = images[torch.randperm(len(images))].chunk(2)
    scores = evaluation.scores(lambda n: samples, run.data)
    reference = fid(*(network.features(half) for half in halves))
    return [
        at_least("inception score", scores["inception-score"], 9.0),
        at_least("smallest class", scores["smallest-class"], 0.05),
        at_most("FID, of that between two halves of the digits", scores["fid"] / reference, 10),
        at_least("distance to the nearest digit, of that between digits", nearest(samples, images) / nearest(images), 0.5),
        at_least("accuracy of the asked digit", (network.probabilities(samples).argmax(1) == labels).float().mean(), 0.9),
    ]


def nearest(a: torch.Tensor, b: torch.Tensor | None = None) -> float:
    """Median distance from each of a to its nearest in b, or to its nearest other in a."""
    distances = torch.cdist(a.flatten(1), (a if b is None else b).flatten(1))
    if b is None:
        distances.fill_diagonal_(float("inf"))
    return distances.min(1).values.median().item()


def test_score_is_linear_in_the_label_embedding():
    critic = get("projection-gan").function().nets(DataSpec((1, 16, 16), classes=10, net="dcgan", width=8))["D"].eval()
    x = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        features = critic.features(x)
        difference = critic(x, torch.full((5,), 3)) - critic(x, torch.full((5,), 7))
        by_hand = features.sum((2, 3)) @ (critic.projection.weight[3] - critic.projection.weight[7])
    torch.testing.assert_close(difference, by_hand)


def test_critic_is_spectrally_normalised():
    critic = get("projection-gan").function().nets(DataSpec((1, 16, 16), classes=10, net="dcgan", width=8))["D"]
    for _ in range(30):
        critic(torch.randn(2, 1, 16, 16), torch.zeros(2, dtype=torch.long))
    weights = [m.weight for m in critic.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Embedding)]
    sizes = [torch.linalg.matrix_norm(w.detach().flatten(1), 2).item() for w in weights]
    assert len(sizes) == 4
    assert all(abs(size - 1) < 0.05 for size in sizes)
