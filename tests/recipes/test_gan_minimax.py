"""gan-minimax: RING(0.70); against N(1, 1), frozen, the optimal critic's value is 2 JSD - 2 log 2."""

import torch

from gancore.recipes import get
from tests.accept import Clause, between, critic_alone, ring


def accept(seed: int) -> list[Clause]:
    return ring("gan-minimax", 0.70, seed)[1] + [value_at_optimal_critic(seed)]


def value_at_optimal_critic(seed: int) -> Clause:
    trainer = critic_alone(get("gan-minimax").function(lr=1e-3), mean=1.0, seed=seed, steps=1500)
    critic, draw = trainer.nets["D"], torch.Generator().manual_seed(seed + 77)
    with torch.no_grad():
        real = critic(torch.randn(200_000, 1, generator=draw))
        fake = critic(1 + torch.randn(200_000, 1, generator=draw))
    # V = E log D(x) + E log(1 - D(g)); the exact optimum for these laws is -1.1635.
    value = torch.nn.functional.logsigmoid(real).mean() + torch.nn.functional.logsigmoid(-fake).mean()
    return between("V of the optimal critic, N(0,1) against N(1,1)", float(value), -1.1635 - 0.02, -1.1635 + 0.02)


def test_generator_and_critic_share_one_value():
    from gancore import losses

    real, fake = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64, requires_grad=True)
    value = -losses.minimax.critic(real, fake)
    (of_value,) = torch.autograd.grad(value.sum(), fake)
    (of_generator,) = torch.autograd.grad(losses.minimax.generator(fake).sum(), fake)
    torch.testing.assert_close(of_generator, of_value)
