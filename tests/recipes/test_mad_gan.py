"""mad-gan: at least 7 modes of ring8 at a share of 0.85; 6 of 8 generators have modes of their own, at a purity of 0.75."""

import torch

from gancore.core import DataSpec, Nets, State
from gancore.nets import Several
from gancore.recipes import get
from gancore.runs import Run
from tests.accept import Clause, at_least, ring, seeded


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("mad-gan", 0.85, seed)
    distinct, purity = specialisation(run, seed)
    return [*clauses, at_least("modes that some generator makes most", distinct, 6), at_least("mean purity", purity, 0.75)]


@torch.no_grad()
def specialisation(run: Run, seed: int, n: int = 1000) -> tuple[int, float]:
    """How many modes are some generator's commonest, and the mean share that its commonest mode has of a generator's samples."""
    angles = torch.arange(8) * torch.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    with seeded(seed):
        samples = run.nets["G"].side_by_side(torch.randn(n, run.nets["G"].latent))
    counts = torch.stack([torch.bincount(torch.cdist(s, centres).argmin(1), minlength=8) for s in samples])
    return len(set(counts.argmax(1).tolist())), (counts.amax(1) / n).mean().item()


def test_a_batch_is_shared_out_and_every_generator_is_named():
    several = Several(3, lambda: Constant())
    for k, member in enumerate(several.members):
        member.value.data.fill_(k)
    z = torch.zeros(8, 4)
    assert several(z)[:, 0].tolist() == several.which(8).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert several.side_by_side(z)[:, 5, 0].tolist() == [0, 1, 2]


class Constant(torch.nn.Module):
    latent, classes = 4, 0

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(()))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(z), 1)


def test_the_critic_names_generators_and_data():
    """With perfect scores D's loss is 0 and a generator's is high; with scores of "data" for fakes the other way round."""
    recipe = get("mad-gan").function(generators=2)
    with seeded(0):
        nets = Nets(recipe.nets(DataSpec((2,), width=8)))
    nets["D"].forward = lambda v: table[: len(v)]
    batch = {"x": torch.zeros(4, 2), "z": torch.zeros(4, 8)}
    critic, generator = (phase.loss for phase in recipe.stages[0].phases)
    table = 50 * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1]), 3).float()
    assert generator(nets, batch, State())["generator"].min() > 49
    as_data = 50 * torch.nn.functional.one_hot(torch.tensor([2, 2, 2, 2]), 3).float()
    given = iter((as_data, table))
    nets["D"].forward = lambda v: next(given)
    assert critic(nets, batch, State())["critic"].max() < 1e-6
