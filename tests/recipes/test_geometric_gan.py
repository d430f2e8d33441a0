"""geometric-gan: RING(0.70); points outside the margin give D exactly no gradient, the margin term |w|^2 C / 2 only w."""

import torch

import gancore
from gancore import losses
from tests.accept import Clause, ring


def accept(seed: int) -> list[Clause]:
    return ring("geometric-gan", 0.70, seed)[1]


def test_only_support_vectors_move_the_critic():
    real = torch.tensor([1.5, 0.5, 3.0], requires_grad=True)
    fake = torch.tensor([-2.0, -0.5, 0.7], requires_grad=True)
    losses.hinge.critic(real, fake).sum().backward()
    assert real.grad.tolist() == [0, -1, 0]
    assert fake.grad.tolist() == [0, 1, 1]


def test_margin_term_shrinks_the_hyperplane():
    options = {"data": "ring8", "steps": 30, "batch_size": 32, "lr": 1e-3, "seed": 3}
    free = gancore.train("geometric-gan", **options)
    held = gancore.train("geometric-gan", margin=10.0, **options)
    norms = [run.trainer.nets["D"].hyperplane.square().sum().item() for run in (free, held)]
    assert norms[1] < 0.9 * norms[0]
    assert "critic/hyperplane" in held.metrics[-1]
