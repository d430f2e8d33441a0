"""Divergences: each f against its conjugate, its outputs and its value between two normal laws, by brute force in float64."""

import math

import pytest
import torch

from gancore.divergences import DIVERGENCES, Divergence, alpha_divergence
from tests.one_gaussian import EXACT

ALL = {**DIVERGENCES, **{f"alpha {a}": alpha_divergence(a) for a in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)}}
SCORES = torch.linspace(-3, 3, 61, dtype=torch.float64)


def ratios() -> torch.Tensor:
    return torch.logspace(-7, 6, 60_001, dtype=torch.float64)


def between_normals(f) -> float:
    """E_q f(p/q) of p = N(0, 1), q = N(1, 1)."""
    x = torch.linspace(-14, 15, 400_001, dtype=torch.float64)
    q = torch.exp(-((x - 1) ** 2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(q * f((0.5 - x).exp()), x).item()


@pytest.mark.parametrize("name", ALL)
def test_the_conjugate_is_the_largest_of_tu_less_f(name: str) -> None:
    d: Divergence = ALL[name]
    t = d.output(SCORES)
    t = t[t >= -2] if name == "pearson" else t  # below, its f is continued to ratios under 0, as the table has it
    u = ratios()
    brute = torch.stack([(s * u - d.f(u)).max() for s in t])
    torch.testing.assert_close(d.conjugate(t), brute, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_cost_is_the_conjugate_of_the_output_and_output_increases(name: str) -> None:
    d = ALL[name]
    torch.testing.assert_close(d.cost(SCORES), d.conjugate(d.output(SCORES)))
    assert (d.output(SCORES).diff() > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_threshold_is_the_slope_at_one_and_fenchel_holds_there(name: str) -> None:
    d = ALL[name]
    one = torch.ones((), dtype=torch.float64)
    if name != "tv":
        u = one.clone().requires_grad_()
        (slope,) = torch.autograd.grad(d.f(u), u)
        torch.testing.assert_close(slope, one * d.threshold, rtol=0, atol=1e-9)
    t = one * d.threshold
    torch.testing.assert_close(d.conjugate(t), t - d.f(one), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_values_between_two_normal_laws(name: str) -> None:
    assert between_normals(DIVERGENCES[name].f) == pytest.approx(EXACT[name], abs=2e-4)


LIMITS = [(1.0, "kl", 1.0), (0.0, "reverse-kl", 1.0), (2.0, "pearson", 0.5), (0.5, "hellinger", 2.0)]


@pytest.mark.parametrize(("alpha", "name", "times"), LIMITS)
def test_alpha_divergences_are_the_named_ones_at_their_limits(alpha: float, name: str, times: float) -> None:
    assert between_normals(alpha_divergence(alpha).f) == pytest.approx(times * EXACT[name], abs=2e-4)
    for near in (alpha - 1e-5, alpha + 1e-5):
        assert between_normals(alpha_divergence(near).f) == pytest.approx(times * EXACT[name], abs=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_the_optimal_critic_attains_the_divergence(name: str) -> None:
    """With T = f'(p/q) the bound is the divergence; its generator's gradient by paper and stronger rule point the same way."""
    d = ALL[name]
    if name == "tv":
        pytest.skip("its optimum is a step, which no score gives")
    x = torch.linspace(-12, 13, 200_001, dtype=torch.float64)
    density = lambda mean: torch.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi)
    u = (0.5 - x).exp().requires_grad_()
    (t,) = torch.autograd.grad(d.f(u).sum(), u)
    found = torch.trapezoid(density(0) * t, x) - torch.trapezoid(density(1) * d.conjugate(t), x)
    assert found.item() == pytest.approx(between_normals(d.f), rel=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_scores_that_are_large_stay_finite_where_the_cost_is(name: str) -> None:
    v = torch.tensor([-40.0, 40.0], requires_grad=True)
    d = ALL[name]
    for part in (d.output(v), d.cost(v)):
        assert part.isfinite().all()
        assert torch.autograd.grad(part.sum(), v)[0].isfinite().all()


def test_the_conjugate_of_jeffreys_has_right_derivatives() -> None:
    t = torch.linspace(-20, 5, 26, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(DIVERGENCES["jeffreys"].conjugate, t)
    assert torch.autograd.gradgradcheck(DIVERGENCES["jeffreys"].conjugate, t)


def test_generators() -> None:
    v = torch.tensor([0.3])
    d = DIVERGENCES["gan"]
    torch.testing.assert_close(d.pair().generator(v), -d.output(v))
    torch.testing.assert_close(d.pair(strong=False).generator(v), -d.cost(v))
    torch.testing.assert_close(d.pair().critic(v, v), -d.bound(v, v))


def test_an_alpha_that_is_none() -> None:
    with pytest.raises(ValueError, match="alpha must be finite, got nan"):
        alpha_divergence(math.nan)
