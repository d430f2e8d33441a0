"""lsgan: RING(0.70); with codes (-1, 1, 0) and an optimal critic, twice G's full loss is Pearson's chi-square, 0.408."""

import torch

from gancore import losses
from gancore.recipes import get
from tests.accept import Clause, between, critic_alone, ring


def accept(seed: int) -> list[Clause]:
    return ring("lsgan", 0.70, seed)[1] + [pearson_of_optimal_critic(seed)]


def pearson_of_optimal_critic(seed: int) -> Clause:
    trainer = critic_alone(get("lsgan").function(a=-1.0, b=1.0, c=0.0, lr=1e-3), mean=1.0, seed=seed, steps=1500)
    critic, draw = trainer.nets["D"], torch.Generator().manual_seed(seed + 77)
    with torch.no_grad():
        real = critic(torch.randn(400_000, 1, generator=draw))
        fake = critic(1 + torch.randn(400_000, 1, generator=draw))
    pair = losses.least_squares(-1.0, 1.0, 0.0)
    value = 2 * (pair.generator(real).mean() + pair.generator(fake).mean())
    return between("chi-square from the optimal critic, N(0,1) against N(1,1)", float(value), 0.408 - 0.02, 0.408 + 0.02)


def test_far_fakes_that_look_real_still_get_a_gradient():
    fake = torch.tensor([5.0, 40.0], requires_grad=True)
    losses.least_squares().generator(fake).sum().backward()
    assert (fake.grad.abs() >= 4).all()
    flat = torch.tensor([40.0], requires_grad=True)
    losses.non_saturating.generator(flat).sum().backward()
    assert flat.grad.abs() < 1e-9
