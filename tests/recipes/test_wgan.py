"""wgan: 8 modes of ring8 at a high-quality share of 0.40; weights inside the box; the critic's gap follows the true distance."""

import math
from dataclasses import replace

import torch

import gancore
from gancore.core import DataSpec, Options
from gancore.data import Dataset
from gancore.recipes import get
from gancore.trainer import Trainer
from tests.accept import Clause, at_least, at_most, ring

CLIP = 0.1


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("wgan", 0.40, seed, modes=8, clip_value=CLIP, lr=5e-4)
    widest = max(p.abs().max().item() for p in run.trainer.nets["D"].parameters())
    return [*clauses, at_most("largest weight of the critic, of the box", widest / CLIP, 1 + 1e-6), gap_follows_distance(seed)]


def gap_follows_distance(seed: int) -> Clause:
    """In one dimension the earth mover's distance is that of the sorted samples: compare both while G learns N(10, 1).

    The first quarter is left out: the critic starts from small weights and has to fill its box before its gap measures anything.
    """
    recipe = replace(get("wgan").function(clip_value=CLIP, critic_steps=50, lr=5e-5), ema=())
    rows = Dataset("normal", {"x": 10 + torch.randn(50_000, 1, generator=torch.Generator().manual_seed(seed))})
    trainer = Trainer(recipe, rows, Options(steps=180, batch_size=256, seed=seed), DataSpec((1,)), torch.device("cpu"))
    gaps, distances = [], []
    with trainer.random():
        for step in range(180):
            trainer.step()
            if step % 5 == 4 and step >= 45:
                gaps.append(-trainer.tick()["critic/critic"])
                with torch.no_grad():
                    fake = trainer.nets["G"](torch.randn(2048, trainer.nets["G"].latent))[:, 0]
                real = rows.fields["x"][:2048, 0]
                distances.append((fake.sort().values - real.sort().values).abs().mean().item())
    return at_least("rank correlation of critic gap and true distance", spearman(gaps, distances), 0.8)


def spearman(a: list[float], b: list[float]) -> float:
    ranks = torch.stack([torch.tensor(v).argsort().argsort().double() for v in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def test_weights_stay_in_the_box_after_every_update():
    seen = []

    def watch(run, record):
        seen.append(max(p.abs().max().item() for p in run.trainer.nets["D"].parameters()))

    gancore.train("wgan", watch, data="ring8", steps=10, batch_size=32, clip_value=0.02, lr=1e-2, log_every=1)
    assert len(seen) == 10
    assert all(math.isclose(s, 0.02, rel_tol=1e-6) or s < 0.02 for s in seen)


def test_spearman_of_known_orders():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == -1


