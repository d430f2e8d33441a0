"""The gradient penalty: cases whose answer is known, per-sample independence, second-order gradients, edges."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancore.penalties import gradient_penalty

INF = float("inf")


def linear(weight: list[float]) -> Callable[..., Tensor]:
    return lambda x: x @ torch.tensor(weight)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_critic_of_slope_one_costs_nothing_at_any_batch_size(count: int) -> None:
    penalty = gradient_penalty(linear([0.6, 0.8]), torch.randn(count, 2), torch.randn(count, 2))
    assert penalty.shape == (count,)
    torch.testing.assert_close(penalty, torch.zeros(count), atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_critic_of_slope_five_costs_sixteen_a_sample(count: int) -> None:
    penalty = gradient_penalty(linear([3.0, 4.0]), torch.randn(count, 2), torch.randn(count, 2))
    torch.testing.assert_close(penalty, torch.full((count,), 16.0))


def test_r1_of_a_quadratic_critic() -> None:
    # f(x) = |Ax|^2 / 2: the gradient is A^T A x.
    a, x = torch.randn(3, 3), torch.randn(5, 3)
    penalty = gradient_penalty(lambda x: 0.5 * (x @ a.T).square().sum(1), x, at="real", center=0.0)
    torch.testing.assert_close(penalty, (x @ a.T @ a).square().sum(1))


def test_every_sample_is_penalised_alone() -> None:
    critic = smooth(torch.float64)
    real, fake, eps = (torch.randn(6, 3, dtype=torch.float64) for _ in range(3))
    eps = eps[:, 0].sigmoid()
    together = gradient_penalty(critic, real, fake, eps=eps)
    alone = torch.cat([gradient_penalty(critic, real[i : i + 1], fake[i : i + 1], eps=eps[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-14, rtol=0)
    assert together.std() > 1e-6


def smooth(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 1)).to(dtype)


@pytest.mark.parametrize("norm", [1, 2, INF])
@pytest.mark.parametrize("center", [0.0, 1.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_gradients_in_the_parameters(norm: float, center: float, one_sided: bool) -> None:
    critic = smooth(torch.float64)
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in critic.named_parameters()), strict=True)
    x = torch.randn(4, 3, dtype=torch.float64)

    def penalty(*parameters: Tensor) -> Tensor:
        def functional(points: Tensor) -> Tensor:
            return 40 * torch.func.functional_call(critic, dict(zip(names, parameters, strict=True)), points)

        return gradient_penalty(functional, x, at="real", center=center, norm=norm, one_sided=one_sided)

    assert (penalty(*values) > 0).any()
    torch.autograd.gradcheck(penalty, values)


def test_penalty_stays_finite_where_the_gradient_vanishes() -> None:
    weight = torch.zeros(2, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ weight, torch.randn(4, 2), torch.randn(4, 2))
    assert penalty.tolist() == [1, 1, 1, 1]
    penalty.sum().backward()
    assert weight.grad.tolist() == [0, 0]


def test_nan_is_not_hidden() -> None:
    penalty = gradient_penalty(lambda x: (x * float("nan")).sum(1), torch.randn(2, 2), at="real")
    assert penalty.isnan().all()


@pytest.mark.parametrize(("norm", "size"), [(1, 7.0), (2, 5.0), (INF, 4.0)])
def test_norms(norm: float, size: float) -> None:
    x = torch.randn(3, 2)
    for center in (0.0, 1.0):
        penalty = gradient_penalty(linear([3.0, -4.0]), x, at="real", norm=norm, center=center)
        torch.testing.assert_close(penalty, torch.full((3,), (size - center) ** 2))


def test_one_sided_spares_small_slopes() -> None:
    x = torch.randn(3, 2)
    assert gradient_penalty(linear([0.1, 0.2]), x, at="real", one_sided=True).tolist() == [0, 0, 0]
    assert (gradient_penalty(linear([0.1, 0.2]), x, at="real") > 0).all()
    torch.testing.assert_close(gradient_penalty(linear([3.0, 4.0]), x, at="real", one_sided=True), torch.full((3,), 16.0))


class Seen(nn.Module):
    """Records the points it is asked about."""

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        self.x, self.more = x.detach().clone(), more
        return x.flatten(1).sum(1)


def test_places() -> None:
    real, fake, critic = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), Seen()

    def points(**settings: Any) -> Tensor:
        gradient_penalty(critic, real, fake, **settings)
        return critic.x

    mixed = torch.stack([fake[0], real[1], 0.25 * real[2] + 0.75 * fake[2]])
    torch.testing.assert_close(points(eps=torch.tensor([0.0, 1.0, 0.25])), mixed)
    between = (points() - fake) / (real - fake)
    torch.testing.assert_close(between, between[:, :1, :1, :1].expand_as(between), atol=1e-4, rtol=1e-4)  # one share a sample
    assert between[:, 0, 0, 0].unique().numel() == 3
    assert ((between > -1e-4) & (between < 1.0001)).all()
    assert torch.equal(points(at="real"), real)
    assert torch.equal(points(at="fake"), fake)
    shift = torch.randn(3, 1, 2, 2)
    assert torch.equal(points(at="around", noise=shift), real + shift)
    dragan = (points(at="around") - real) / (0.5 * real.std())
    assert (dragan >= -1e-5).all()
    assert (dragan <= 1.00001).all()
    assert dragan.unique().numel() == 12


def test_gaussian_noise_has_the_asked_size() -> None:
    real, critic = torch.zeros(20_000, 1), Seen()
    gradient_penalty(critic, real, at="around", noise=0.3)
    assert float(critic.x.std()) == pytest.approx(0.3, rel=0.03)


def test_several_inputs_share_one_norm_and_one_share() -> None:
    seen: list[Tensor] = []

    def critic(x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        seen[:] = [x.detach(), z.detach(), y]
        return x @ torch.tensor([3.0, 0.0]) + z @ torch.tensor([0.0, 4.0, 0.0])

    ones, y = (torch.ones(4, 2), torch.ones(4, 3)), torch.arange(4)
    penalty = gradient_penalty(critic, ones, (torch.zeros(4, 2), torch.zeros(4, 3)), conditions=(y,))
    torch.testing.assert_close(penalty, torch.full((4,), 16.0))
    assert torch.equal(seen[0][:, 0], seen[1][:, 0])
    assert seen[2] is y


def test_an_input_without_influence_counts_as_flat() -> None:
    penalty = gradient_penalty(lambda x, z: x.sum(1), (torch.randn(2, 4), torch.randn(2, 3)), at="real")
    assert penalty.tolist() == [1, 1]  # (2 - 1)^2


def test_points_are_detached_from_the_generator() -> None:
    fake = torch.randn(3, 2, requires_grad=True)
    weight = torch.ones(2, requires_grad=True)
    gradient_penalty(lambda x: (x * weight).square().sum(1), torch.randn(3, 2), fake).sum().backward()
    assert fake.grad is None
    assert weight.grad.abs().sum() > 0


def test_an_observed_penalty_holds_no_graph() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert not gradient_penalty(lambda x: x @ weight, torch.randn(3, 2), at="real", create_graph=False).requires_grad
    with torch.no_grad():
        assert gradient_penalty(linear([3.0, 4.0]), torch.randn(3, 2), at="real").tolist() == pytest.approx([16.0] * 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_data_and_narrow_fakes_mix(dtype: torch.dtype) -> None:
    critic, real, fake = smooth(), torch.randn(4, 3), torch.randn(4, 3).to(dtype)
    eps = torch.rand(4)
    with torch.autocast("cpu", dtype):
        penalty = gradient_penalty(critic, real, fake, eps=eps)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, gradient_penalty(critic, real, fake.float(), eps=eps), atol=0.03, rtol=0.03)
    penalty.sum().backward()
    assert all(p.grad.isfinite().all() for p in critic.parameters() if p.grad is not None)


def test_batch_norm_in_training_is_warned_of() -> None:
    critic = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    with pytest.warns(UserWarning, match="batch normalisation"):
        gradient_penalty(critic, torch.randn(4, 2), at="real")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient_penalty(critic.eval(), torch.randn(4, 2), at="real")
        gradient_penalty(smooth(), torch.randn(4, 3), at="real")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"at": "here"}, "at must be"), ({"at": "between"}, "fake"), ({"at": "fake"}, "fake"), ({"at": "real", "norm": 3}, "norm")],
)
def test_wrong_arguments(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gradient_penalty(linear([1.0, 1.0]), torch.randn(3, 2), **settings)
