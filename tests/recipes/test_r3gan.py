"""r3gan: RING(0.70) with gamma 0.1; only differences of scores count, both slopes are penalised, and G sees the data's scores."""

import torch
from torch import nn

from gancore import losses
from gancore.core import Nets, State
from gancore.recipes import get
from tests.accept import Clause, ring, seeded


def accept(seed: int) -> list[Clause]:
    return ring("r3gan", 0.70, seed, gamma=0.1)[1]


def terms(shift: float) -> list[dict[str, torch.Tensor]]:
    """Of both phases, for a critic whose scores are moved by `shift`."""
    with seeded(0):
        critic, generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)), nn.Linear(3, 2)
        batch = {"x": torch.randn(16, 2), "z": torch.randn(16, 3)}
    critic[2].bias.data += shift
    return [p.loss(Nets({"G": generator, "D": critic}), batch, State()) for p in get("r3gan").function().stages[0].phases]


def test_only_differences_of_scores_count():
    for here, there in zip(terms(0.0), terms(5.0), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


def test_slopes_at_data_and_at_fakes():
    critic = terms(0.0)[0]
    assert list(critic) == ["critic", "r1", "r2"]
    assert not torch.equal(critic["r1"], critic["r2"])
    (phase, _) = get("r3gan").function(gamma=3.0).stages[0].phases
    assert phase.updates["D"] == {"critic": 1.0, "r1": 1.5, "r2": 1.5}


def test_the_generator_climbs_from_the_data_and_not_from_zero():
    fake = torch.zeros(2, requires_grad=True)
    losses.relativistic.generator(fake, torch.tensor([9.0, -9.0])).sum().backward()
    torch.testing.assert_close(fake.grad, torch.tensor([-1.0, 0.0]), rtol=0, atol=1e-3)
