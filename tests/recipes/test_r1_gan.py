"""r1-gan: RING(0.70) with gamma 0.1; the Dirac-GAN comes to rest, and without the penalty circles; a quadratic D by closed form.

The Dirac-GAN (section 2 of the paper): all data are 0, G(z) = theta, D(x) = psi x. Its one equilibrium is (0, 0).
"""

import torch
from torch import nn

from gancore.core import Nets, State
from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, ring


def accept(seed: int) -> list[Clause]:
    return [
        *ring("r1-gan", 0.70, seed, gamma=0.1)[1],
        at_most("distance of the Dirac-GAN from equilibrium, started at 1", dirac("r1-gan", gamma=1.0), 1e-3),
        at_least("that of gan-ns", dirac("gan-ns"), 0.2),
    ]


class Point(nn.Module):
    """theta, whatever z is."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """psi x."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.psi * x).squeeze(1)


def dirac(name: str, steps: int = 500, lr: float = 0.1, **parameters: float) -> float:
    """|(theta, psi)| after alternating gradient steps on the recipe's phases."""
    recipe = get(name).function(**parameters)
    nets = Nets({"G": Point(), "D": Slope()})
    batch = {"x": torch.zeros(1, 1), "z": torch.zeros(1, 1)}
    for _ in range(steps):
        for phase in recipe.stages[0].phases:
            (player, route), = phase.updates.items()
            terms = phase.loss(nets, batch, State())
            loss = torch.stack([weight * terms[term].mean() for term, weight in route.items()]).sum()
            (p,) = nets[player].parameters()
            p.data -= lr * torch.autograd.grad(loss, p)[0]
    return torch.cat([p.detach() for p in nets.parameters()]).norm().item()


def test_the_dirac_gan_comes_to_rest_and_circles_without_the_penalty():
    assert dirac("r1-gan", gamma=1.0) < 1e-3
    assert dirac("gan-ns") > 0.2


def test_a_quadratic_critic_by_closed_form():
    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * self.a * x.square().sum(1)

    critic, x = Bowl(), torch.randn(64, 3)
    nets = Nets({"G": nn.Linear(2, 3), "D": critic})
    (phase, _) = get("r1-gan").function(gamma=4.0).stages[0].phases
    (player, route), = phase.updates.items()
    term = route["r1"] * phase.loss(nets, {"x": x, "z": torch.randn(64, 2)}, State())["r1"].mean()
    expected = 2 * 0.7**2 * x.square().sum(1).mean()
    torch.testing.assert_close(term, expected)
    torch.testing.assert_close(torch.autograd.grad(term, critic.a)[0], 2 * expected / 0.7)
    assert player == "D"
