"""wgan-gp: RING(0.65) with penalty 1; the critic's slope between data and fakes ends near 1; nothing is clipped."""

import torch

from gancore.core import DataSpec
from gancore.penalties import gradient_penalty
from gancore.recipes import get
from tests.accept import Clause, at_least, between, ring, seeded


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("wgan-gp", 0.65, seed, penalty=1.0, critic_steps=3)
    critic, generator = run.trainer.nets["D"], run.trainer.nets["G"]
    with seeded(seed):
        real = run.data.take(torch.randint(len(run.data), (4096,)))["x"]
        fake = generator(torch.randn(4096, generator.latent)).detach()
        points = torch.lerp(fake, real, torch.rand(4096, 1)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(points).sum(), points)
    widest = max(p.abs().max().item() for p in critic.parameters())
    return [
        *clauses,
        between("mean slope of the critic", slope.norm(dim=1).mean().item(), 0.8, 1.2),
        at_least("largest weight: no box", widest, 0.1),
    ]


def test_penalty_reaches_every_weight_matrix():
    players = get("wgan-gp").function().nets(DataSpec((2,)))
    with seeded(0):
        gradient_penalty(players["D"], torch.randn(64, 2), torch.randn(64, 2)).mean().backward()
    matrices = [p for p in players["D"].parameters() if p.dim() == 2]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in matrices)


def test_no_batch_norm_in_the_critic():
    players = get("wgan-gp").function().nets(DataSpec((3, 16, 16), net="dcgan", width=8))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in players["D"].modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in players["G"].modules())
