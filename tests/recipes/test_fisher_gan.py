"""fisher-gan: RING(0.70) with rho 1e-2, Omega near 1 at the end; on a frozen generator the gap is the chi-square root, 0.903."""

import torch

from gancore.core import Nets, State
from gancore.recipes import get
from gancore.regularizers import second_moment
from tests.accept import Clause, between, critic_alone, ring

GAP = 0.903  # sqrt(2 int (p - q)^2 / (p + q)) of N(0, 1) and N(1, 1)


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("fisher-gan", 0.70, seed, rho=1e-2)
    trainer = critic_alone(get("fisher-gan").function(rho=1e-1, lr=1e-3), mean=1.0, seed=seed, steps=2500)
    critic, draw = trainer.nets["D"], torch.Generator().manual_seed(seed + 77)
    with torch.no_grad():
        real, fake = (critic(mean + torch.randn(400_000, 1, generator=draw)) for mean in (0.0, 1.0))
    gap = (real.mean() - fake.mean()) / second_moment(real, fake).sqrt()
    last = sum(record["critic/moment"] for record in run.metrics[-5:]) / 5
    return [
        *clauses,
        between("second moment Omega at the end", last, 0.8, 1.2),
        between("gap of the best critic, N(0,1) against N(1,1)", gap.item(), GAP - 0.03, GAP + 0.03),
    ]


def test_the_gap_by_quadrature():
    x = torch.linspace(-12, 13, 100_001, dtype=torch.float64)
    p, q = ((-((x - mean) ** 2) / 2).exp() / (2 * torch.pi) ** 0.5 for mean in (0.0, 1.0))
    assert abs(torch.trapezoid(2 * (p - q) ** 2 / (p + q), x).sqrt().item() - GAP) < 1e-3


def test_the_multiplier_follows_the_moment_and_pulls_against_it():
    recipe = get("fisher-gan").function(rho=0.5)
    phase = recipe.stages[0].phases[0]
    state = recipe.state()
    nets = Nets({"D": torch.nn.Flatten(0), "G": torch.nn.Identity()})
    terms = phase.loss(nets, {"x": torch.full((4, 1), 3.0), "z": torch.full((4, 1), 1.0)}, state)
    assert terms["moment"] == 5.0
    assert terms["constraint"] == 0.25 * 16.0
    phase.after(nets, state, {"moment": terms["moment"]})
    assert state.multiplier == 0.5 * 4.0
    held = phase.loss(nets, {"x": torch.full((4, 1), 3.0), "z": torch.full((4, 1), 1.0)}, state)
    assert held["constraint"] == 2.0 * 4.0 + 4.0


def test_the_state_starts_at_zero():
    assert get("fisher-gan").function().state().multiplier == 0
    assert isinstance(get("fisher-gan").function().state(), State)
