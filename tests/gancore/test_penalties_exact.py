"""The gradient penalty of every kind of critic against float64 autograd: precisions, other people's formulas, sabotage."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancore.kernels
from gancore.penalties import critics, gradient_penalty, scales
from tests.gancore.critics import CRITICS, PENALTIES, cast, error, gradients, made, written_out


def truth_of(critic: nn.Module, tensors: dict[str, Any], settings: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    wide = copy.deepcopy(critic).double()
    penalty = written_out(wide, **cast(tensors, torch.float64), **settings)
    return penalty.detach(), gradients(wide, penalty.mean())


def check(
    penalty_of: Callable[..., Tensor],
    critic: nn.Module,
    tensors: dict[str, Any],
    settings: dict[str, Any],
    low: torch.dtype | None = None,
) -> None:
    """float32 to 1e-5; under autocast to bfloat16 twice, to float16 three times what plain PyTorch errs there."""
    value, expected = truth_of(critic, tensors, settings)
    if low is None:
        penalty = penalty_of(copy.deepcopy(critic), **tensors, **settings)
        torch.testing.assert_close(penalty.double(), value, rtol=1e-5, atol=1e-6)
        ours = copy.deepcopy(critic)
        assert error(gradients(ours, penalty_of(ours, **tensors, **settings).mean()), expected) < 1e-5
        return
    found = []
    for function in (penalty_of, written_out):
        own = copy.deepcopy(critic)
        with torch.autocast("cpu", low):
            penalty = function(own, **tensors, **settings)
        off = float((penalty.detach().double() - value).norm() / value.norm())
        found.append((off, error(gradients(own, penalty.mean()), expected)))
    times, rounding = {torch.bfloat16: (2, 2e-3), torch.float16: (3, 2e-4)}[low]
    for ours_error, theirs in zip(*found, strict=True):
        assert ours_error <= times * theirs + rounding, f"{ours_error:.1e}, plain PyTorch {theirs:.1e}"


@pytest.mark.parametrize("settings", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", CRITICS)
def test_float32(name: str, settings: dict[str, Any]) -> None:
    critic, tensors = made(name)
    check(gradient_penalty, critic, tensors, settings)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [PENALTIES["wgan-gp"], PENALTIES["r1"]], ids=["wgan-gp", "r1"])
@pytest.mark.parametrize("name", CRITICS)
def test_low_precision(name: str, settings: dict[str, Any], low: torch.dtype) -> None:
    critic, tensors = made(name)
    check(gradient_penalty, critic, tensors, settings, low)


# -- float16: its scales ----------------------------------------------------------------------------------------------------


def of_slope(name: str, size: float) -> tuple[nn.Module, dict[str, Any]]:
    """A critic with gradients of about this norm."""
    critic, tensors = made(name)
    with torch.no_grad():
        found = gradient_penalty(critic, tensors["real"], at="real", center=0.0).sqrt().mean()
        critic[-1].weight *= size / found
    return critic, tensors


def half_errors(critic: nn.Module, tensors: dict[str, Any], loss_scale: float) -> tuple[float, float]:
    """Of our gradients and plain PyTorch's in float16 under a loss scale."""
    _, expected = truth_of(critic, tensors, {})
    found = []
    for penalty_of in (gradient_penalty, written_out):
        with torch.autocast("cpu", torch.float16):
            loss = penalty_of(critic, **tensors).mean() * loss_scale
        found.append(error({n: g / loss_scale for n, g in gradients(critic, loss).items()}, expected))
    return found[0], found[1]


@pytest.mark.parametrize("loss_scale", [1.0, 2.0**12, 2.0**16])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_float16_is_finite_and_right_at_any_scale(size: float, loss_scale: float) -> None:
    critic, tensors = of_slope("residual", size)  # no kinks, which rounding may carry a value over
    with torch.autocast("cpu", torch.float16):
        gradient_penalty(critic, **tensors)  # its scale settles
    for _ in range(2):
        ours, theirs = half_errors(critic, tensors, loss_scale)
        assert ours <= min(3 * theirs, 0.01), f"{ours:.1e}, plain PyTorch {theirs:.1e}"


def test_the_first_penalty_in_float16_is_finite_too() -> None:
    ours, theirs = half_errors(*of_slope("convolutions", 1e4), loss_scale=2.0**16)
    assert ours < 0.05
    assert theirs == float("inf"), "an easy case"


def test_the_scale_moves_only_where_gradients_leave_float16() -> None:
    scale = torch.ones(())
    for largest, settled in ((1.0, 1.0), (2.0**-12, 1.0), (2.0**-20, 2.0**8), (1.0, 2.0**8), (2.0**10, 4.0), (0.0, 4.0)):
        scales.adapt(scale, torch.tensor(largest))
        assert float(scale) == settled
    scales.adapt(scale, torch.tensor(float("inf")))
    assert float(scale) == 2.0**-6
    scales.adapt(scale, torch.tensor(float("nan")))
    assert float(scale) == 2.0**-14
    scales.adapt(scale, torch.tensor(1e-38))
    assert float(scale) == scales.MOST


def test_a_scale_goes_with_its_critic() -> None:
    critic, _ = made("smooth")
    which = critics.number(critic, torch.device("cpu"))
    assert critics.number(critic, torch.device("cpu")) == which
    assert critics.number(copy.deepcopy(critic), torch.device("cpu")) != which
    del critic
    with pytest.raises(KeyError):
        critics.scale(which)


# -- formulas of others -----------------------------------------------------------------------------------------------------


def paper(critic: nn.Module, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """Algorithm 1 of arXiv:1704.00028, line 7, without the factor lambda: one number for the batch."""
    x = (eps[:, None, None, None] * real + (1 - eps[:, None, None, None]) * fake).requires_grad_()
    slopes = torch.autograd.grad(critic(x), x, torch.ones(len(x), 1), create_graph=True)[0]
    return ((slopes.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()


def studio_gan(critic: nn.Module, real: Tensor, fake: Tensor, alpha: Tensor, kind: str, noise: Tensor) -> Tensor:
    """The penalties of PyTorch-StudioGAN, whose alpha counts from real to fake and whose R1 has the half of its paper."""
    wide = alpha[:, None, None, None]
    x = {"gp": real + wide * (fake - real), "dra": real + noise, "r1": real}[kind].detach().requires_grad_()
    slopes = torch.autograd.grad(critic(x).sum(), x, create_graph=True, retain_graph=True)[0].reshape(len(x), -1)
    return 0.5 * slopes.pow(2).sum(1).mean() if kind == "r1" else ((slopes.norm(2, dim=1) - 1) ** 2).mean()


@pytest.mark.parametrize("name", ["convolutions", "residual"])
def test_formulas_of_others(name: str) -> None:
    critic, t = made(name)
    real, fake, eps, noise = t["real"], t["fake"], t["eps"], t["noise"]
    pairs = (
        (gradient_penalty(critic, real, fake, eps=eps).mean(), paper(critic, real, fake, eps)),
        (gradient_penalty(critic, real, fake, eps=eps).mean(), studio_gan(critic, real, fake, 1 - eps, "gp", noise)),
        (gradient_penalty(critic, real, at="around", noise=noise).mean(), studio_gan(critic, real, fake, eps, "dra", noise)),
        (0.5 * gradient_penalty(critic, real, at="real", center=0).mean(), studio_gan(critic, real, fake, eps, "r1", noise)),
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
        assert error(gradients(critic, ours), {n: g.double() for n, g in gradients(critic, theirs).items()}) < 1e-5


# -- sabotage: each of these passes a test of values alone, or of one precision ---------------------------------------------


class _Tanh(torch.autograd.Function):
    """tanh whose saved output is a constant to the second derivative, as a careless trace leaves it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy * (1 - ctx.saved_tensors[0].detach() ** 2)


class _Softplus(torch.autograd.Function):
    """softplus that gives a gradient penalty no term of its own second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.softplus(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy * ctx.saved_tensors[0].detach().sigmoid()


@contextmanager
def sabotaged(how: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if how == "saved tanh detached":
            patch.setattr(nn.Tanh, "forward", lambda self, x: _Tanh.apply(x))
        if how == "norm of the batch":
            whole = gancore.kernels.gradient_norm_penalty
            patch.setattr(gancore.kernels, "gradient_norm_penalty", lambda g, *cost: whole(g[None], *cost).expand(len(g)))
        if how == "second-derivative term dropped":
            patch.setattr(nn.Softplus, "forward", lambda self, x: _Softplus.apply(x))
        if how == "not unscaled":
            patch.setattr(scales.Scaled, "gradient", lambda self, g: scales._Enter.apply(g.float(), self))
        if how == "way back not unscaled":
            patch.setattr(scales.Scaled, "weights", lambda self, state: state)
        yield


@pytest.mark.parametrize(
    ("how", "low"),
    [
        ("saved tanh detached", None),
        ("norm of the batch", None),
        ("second-derivative term dropped", None),
        ("not unscaled", torch.float16),
        ("way back not unscaled", torch.float16),
    ],
)
def test_sabotage_is_caught(how: str, low: torch.dtype | None) -> None:
    critic, tensors = made("smooth")

    def settled(critic: nn.Module, **arguments: Any) -> Tensor:
        critics.scale(critics.number(critic, torch.device("cpu"))).fill_(4.0)
        return gradient_penalty(critic, **arguments)

    penalty_of = gradient_penalty if low is None else settled
    check(penalty_of, critic, tensors, {}, low)
    # The truth is PyTorch's own, so only what is under test is broken.
    broken = lambda *args, **kwargs: run_sabotaged(penalty_of, how, *args, **kwargs)
    with pytest.raises(AssertionError):
        check(broken, critic, tensors, {}, low)


def run_sabotaged(penalty_of: Callable[..., Tensor], how: str, *args: Any, **kwargs: Any) -> Tensor:
    with sabotaged(how):
        return penalty_of(*args, **kwargs)
