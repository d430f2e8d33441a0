"""Objectives: one value of each by hand, and the gradients that tell them apart."""

import math

import pytest
import torch
from torch import Tensor, tensor

from gancore import losses
from gancore.losses import Pair

REAL, FAKE = tensor([1.0, -2.0]), tensor([0.5, 3.0])


def plus(t: float) -> float:
    """log(1 + e^t)."""
    return math.log1p(math.exp(t))


# Per sample. -log sigmoid(l) = plus(-l), -log(1 - sigmoid(l)) = plus(l).
VALUES = [
    ("minimax", losses.minimax, [plus(-1) + plus(0.5), plus(2) + plus(3)], [-plus(0.5), -plus(3)]),
    ("non_saturating", losses.non_saturating, [plus(-1) + plus(0.5), plus(2) + plus(3)], [plus(-0.5), plus(-3)]),
    ("hinge", losses.hinge, [0 + 1.5, 3 + 4], [-0.5, -3]),
    ("wasserstein", losses.wasserstein, [0.5 - 1, 3 + 2], [-0.5, -3]),
    ("least_squares", losses.least_squares(), [0 + 0.125, 4.5 + 4.5], [0.125, 2]),
    # a, b, c = -1, 1, 0: real (l - 1)^2 / 2, fake (l + 1)^2 / 2, generator l^2 / 2.
    ("least_squares(-1,1,0)", losses.least_squares(-1, 1, 0), [0 + 1.125, 4.5 + 8], [0.125, 4.5]),
]


@pytest.mark.parametrize(("pair", "critic", "generator"), [v[1:] for v in VALUES], ids=[v[0] for v in VALUES])
def test_values_by_hand(pair: Pair, critic: list[float], generator: list[float]) -> None:
    torch.testing.assert_close(pair.critic(REAL, FAKE), tensor(critic))
    torch.testing.assert_close(pair.generator(FAKE), tensor(generator))


def slope(function: object, at: float) -> float:
    logit = tensor([at], dtype=torch.float64, requires_grad=True)
    function(logit).sum().backward()
    return float(logit.grad)


def test_a_surely_rejected_sample_pulls_999_times_more_in_the_non_saturating_game() -> None:
    logit = math.log(1e-3 / (1 - 1e-3))  # D(g) = 1e-3
    saturating, pulling = slope(losses.minimax.generator, logit), slope(losses.non_saturating.generator, logit)
    assert saturating == pytest.approx(-0.001, rel=1e-9)  # d log(1 - D)/dl = -D
    assert pulling == pytest.approx(-0.999, rel=1e-9)  # -d log D/dl = -(1 - D)
    assert pulling / saturating == pytest.approx(999, rel=1e-9)


def test_hinge_moves_nothing_outside_its_margin() -> None:
    real = tensor([-0.5, 0.999, 1.001, 7.0], requires_grad=True)
    fake = tensor([0.5, -0.999, -1.001, -7.0], requires_grad=True)
    losses.hinge.critic(real, fake).sum().backward()
    assert real.grad.tolist() == [-1, -1, 0, 0]
    assert fake.grad.tolist() == [1, 1, 0, 0]


def test_hinge_generator_and_wasserstein_have_constant_slopes() -> None:
    assert slope(losses.hinge.generator, -40.0) == slope(losses.wasserstein.generator, 40.0) == -1


@pytest.mark.parametrize("logit", [-200.0, -30.0, 30.0, 200.0])
def test_probabilistic_losses_survive_extreme_logits(logit: float) -> None:
    for pair in (losses.minimax, losses.non_saturating):
        score = tensor([logit])
        assert torch.isfinite(pair.critic(score, score)).all()
        assert math.isfinite(slope(pair.generator, logit))
    assert float(losses.bce(tensor([logit]), 1)) == pytest.approx(max(-logit, 0), abs=1e-6)


def test_bce_takes_soft_targets() -> None:
    # -(0.9 log s + 0.1 log(1 - s)) at l = 0.7, s = sigmoid(0.7); its slope is s - 0.9.
    s = 1 / (1 + math.exp(-0.7))
    assert float(losses.bce(tensor([0.7]), 0.9)) == pytest.approx(-(0.9 * math.log(s) + 0.1 * math.log(1 - s)), rel=1e-6)
    assert slope(lambda l: losses.bce(l, 0.9), 0.7) == pytest.approx(s - 0.9, rel=1e-9)
    targets = tensor([0.0, 1.0, 0.5])
    torch.testing.assert_close(losses.bce(torch.zeros(3), targets), torch.full((3,), math.log(2)))


def test_kl_gauss_is_the_closed_form() -> None:
    mean, sd = tensor([[0.5, -1.0], [0.0, 0.0]]), tensor([[2.0, 0.5], [1.0, 1.0]])
    # 1/2 sum (m^2 + s^2 - 1 - log s^2): (0.25 + 4 - 1 - log 4 + 1 + 0.25 - 1 - log 0.25) / 2 = 3.5 / 2
    torch.testing.assert_close(losses.kl_gauss(mean, 2 * sd.log()), tensor([1.75, 0.0]))
    q = torch.distributions.Normal(mean, sd)
    torch.testing.assert_close(losses.kl_gauss(mean, 2 * sd.log()), torch.distributions.kl_divergence(q, std()).sum(1))


def std() -> torch.distributions.Normal:
    return torch.distributions.Normal(0.0, 1.0)


def test_reparametrize_draws_and_passes_gradients() -> None:
    mean = torch.full((40_000, 1), 3.0, requires_grad=True)
    log_variance = torch.full((40_000, 1), 2 * math.log(0.5), requires_grad=True)
    z = losses.reparametrize(mean, log_variance)
    assert float(z.detach().mean()) == pytest.approx(3.0, abs=0.02)
    assert float(z.detach().std()) == pytest.approx(0.5, abs=0.02)
    z.sum().backward()
    # z = m + exp(v / 2) e: dz/dm = 1, dz/dv = (z - m) / 2
    torch.testing.assert_close(mean.grad, torch.ones_like(z))
    torch.testing.assert_close(log_variance.grad, ((z - mean) / 2).detach())


def test_distances_are_per_sample() -> None:
    a, b = torch.zeros(2, 3, 2), tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 3, 2)
    assert losses.squared_error(a, b).tolist() == [6, 24]


def everything(real: Tensor, fake: Tensor) -> Tensor:
    pairs = [v[1] for v in VALUES]
    return torch.stack([f for p in pairs for f in (p.critic(real, fake), p.generator(fake))])


def test_no_loss_reduces_or_mixes_samples() -> None:
    together = everything(REAL, FAKE)
    assert together.shape == (12, 2)
    alone = torch.cat([everything(REAL[i : i + 1], FAKE[i : i + 1]) for i in range(2)], 1)
    assert torch.equal(together, alone)


def test_root_has_no_slope_where_nothing_is_above_zero() -> None:
    square = tensor([4.0, 0.0, -1e-9, math.nan], requires_grad=True)
    found = losses.root(square)
    found[:3].sum().backward()
    torch.testing.assert_close(found.detach(), tensor([2.0, 0.0, 0.0, math.nan]), equal_nan=True)
    assert square.grad is not None
    torch.testing.assert_close(square.grad, tensor([0.25, 0.0, 0.0, 0.0]))
