"""mad-gan-sim: at least 7 modes of ring8, and the generators' likeness falls by 30 % against weight 0."""

import torch

from gancore.agents import likeness
from gancore.core import Nets
from tests.accept import Clause, at_most, ring, seeded


def accept(seed: int) -> list[Clause]:
    # Eight would each take a mode of their own without being asked, and alike is only what shares some.
    run, clauses = ring("mad-gan-sim", 0.0, seed, generators=2, weight=0.5)
    free, _ = ring("mad-gan-sim", 0.0, seed, generators=2, weight=0.0)
    with seeded(seed), torch.no_grad():
        z = torch.randn(1000, run.nets["G"].latent)
        ratio = likeness(run.trainer.nets, z) / likeness(free.trainer.nets, z)
    return [clauses[0], at_most("likeness of generators over that at weight 0", ratio.item(), 0.7)]


def test_likeness_is_the_sum_of_positive_cosines():
    nets = Nets({"G": torch.nn.Module(), "D": torch.nn.Module()})
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [-1.0, 0.0]])
    nets["G"].side_by_side = lambda z: directions[:, None].expand(4, len(z), 2)
    nets["D"].features = lambda x: x
    half = 0.5**0.5
    torch.testing.assert_close(likeness(nets, torch.zeros(5, 3)), torch.tensor(4 * half))
