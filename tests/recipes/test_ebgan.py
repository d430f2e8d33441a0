"""ebgan: DIG(25, 9), with the pull-away term DIG(15, 9); fakes beyond the margin give D no gradient; noise costs more than data."""

import torch

from gancore import energies
from gancore.core import Nets
from tests.accept import Clause, at_least, dig, seeded


def accept(seed: int) -> list[Clause]:
    run, plain = dig("ebgan", 25, 9, seed)
    _, pulled = dig("ebgan", 15, 9, seed, pull_away=0.1)
    critic, real = run.trainer.nets["D"], run.data.all()["x"]
    with seeded(seed), torch.no_grad():
        noise = 2 * torch.rand_like(real) - 1
        ratio = energies.energy(critic, noise).mean() / energies.energy(critic, real).mean()
    return [*plain, *pulled, at_least("energy of uniform noise over that of data", ratio.item(), 5)]


def test_fakes_beyond_the_margin_give_no_gradient():
    class Offset(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.by.view(-1, *[1] * (x.dim() - 1))[: len(x)]

    nets = Nets({"D": Offset(), "G": torch.nn.Identity()})
    z = torch.zeros(3, 4)
    nets.D.by.data = torch.tensor([0.5, 1.0, 2.0])  # energies 1, 4, 16
    terms = energies.hinge(nets, {"x": z, "z": z}, 5.0)
    assert terms["margin"].tolist() == [4.0, 1.0, 0.0]
    (slope,) = torch.autograd.grad(terms["margin"].sum(), nets.D.by)
    assert slope.tolist() == [-4.0, -8.0, 0.0]


def test_pull_away_is_the_mean_squared_cosine_of_pairs():
    codes = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    torch.testing.assert_close(energies.pull_away(codes), torch.tensor((0 + 0.5 + 0.5) * 2 / 6))
    assert energies.pull_away(torch.eye(4)) == 0
    torch.testing.assert_close(energies.pull_away(torch.ones(4, 3)), torch.tensor(1.0))
