"""The gradient penalty inside torch.compile: whole phases in one graph, exact, for each kind of critic; and what is not traced."""

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancore.penalties import critics, gradient_penalty
from tests.gancore.critics import CRITICS, Labelled, cast, error, gradients, made, smooth, written_out


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def phase(critic: nn.Module, real: Tensor, fake: Tensor, conditions: tuple[Tensor, ...] = (), **more: Any) -> Tensor:
    """Scores, penalty, sum: what a trainer compiles."""
    penalty = gradient_penalty(critic, real, fake, conditions=conditions, **more)
    return (critic(fake, *conditions) - critic(real, *conditions)).mean() + 10 * penalty.mean()


def compiled(function: Callable[..., Any] = phase, **options: Any) -> Callable[..., Any]:
    return torch.compile(function, **{"fullgraph": True, "backend": "aot_eager", **options})


@pytest.mark.parametrize("name", CRITICS)
def test_a_whole_phase_is_one_exact_graph(name: str) -> None:
    critic, tensors = made(name)
    critic, tensors = critic.double(), cast(tensors, torch.float64)
    del tensors["noise"]
    twin = copy.deepcopy(critic)
    run = compiled()
    for _ in range(2):
        a, b = phase(critic, **tensors), run(twin, **tensors)
        assert float(abs(a - b).detach()) < 1e-12 * float(abs(a).detach())
        assert error(gradients(twin, b), gradients(critic, a)) < 1e-12
        for buffer, other in zip(critic.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(other, buffer)  # power iterations go on alike


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth", "residual", "fused"])
def test_generated_code_is_exact(name: str) -> None:
    critic, tensors = made(name)
    wide, tensors = copy.deepcopy(critic).double(), cast(tensors, torch.float64)
    del tensors["noise"]
    a, b = phase(wide, **tensors), compiled(backend="inductor")(wide, **tensors)
    assert error(gradients(wide, b), gradients(wide, a)) < 1e-12


def test_the_sabotage_of_a_saved_tanh_is_noticed_in_compiled_graphs() -> None:
    """The trap of traces: a saved output detached, whose value is right and whose second derivative lacks a term."""

    class Detached(nn.Tanh):
        def forward(self, x: Tensor) -> Tensor:
            y = x.tanh()
            return y.detach() + (1 - y.detach() ** 2) * (x - x.detach())

    critic, tensors = made("smooth")
    broken = copy.deepcopy(critic)
    broken[1] = Detached()
    del tensors["noise"]
    a, b = phase(critic, **tensors), compiled()(broken, **tensors)
    assert float(abs(a - b).detach()) < 1e-5
    assert error(gradients(broken, b), gradients(critic, a)) > 1e-3


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("outside", [True, False])
def test_mixed_precision(low: torch.dtype, outside: bool) -> None:
    """In float16 its scale moves at the first penalty, and the backward still sees the one that was used."""
    critic, tensors = made("convolutions")
    del tensors["noise"]
    with torch.no_grad():
        critic[-1].weight *= 1000
    twin = copy.deepcopy(critic)

    def within(critic: nn.Module, **tensors: Any) -> Tensor:
        with torch.autocast("cpu", low):
            return phase(critic, **tensors)

    run = compiled(phase if outside else within)
    for _ in range(2):
        with torch.autocast("cpu", low):
            a = phase(critic, **tensors)
        with torch.autocast("cpu", low, enabled=outside):
            b = run(twin, **tensors)
        assert error(gradients(twin, b), {n: g.double() for n, g in gradients(critic, a).items()}) < 0.02
    settled = {float(critics.scale(critics.number(c, torch.device("cpu")))) for c in (critic, twin)}
    assert len(settled) == 1
    assert (settled != {1.0}) == (low == torch.float16)


def test_each_critic_keeps_to_itself() -> None:
    """A graph belongs to one critic; a new one never takes the place of one that is gone."""
    run, x = compiled(lambda critic, x: gradient_penalty(critic, x, at="real", center=0)), torch.randn(3, 3)
    for _ in range(4):
        critic = smooth()
        torch.testing.assert_close(run(critic, x), gradient_penalty(critic, x, at="real", center=0))
        del critic
        gc.collect()


def test_any_batch_size_and_frozen_parameters() -> None:
    critic = smooth()
    critic[0].weight.requires_grad_(False)
    run = compiled(lambda x: gradient_penalty(critic, x, at="real"), dynamic=True)
    for n in (4, 5, 9):
        x = torch.randn(n, 3)
        found = run(x)
        torch.testing.assert_close(found, gradient_penalty(critic, x, at="real"))
        found.sum().backward()
    assert critic[0].weight.grad is None
    assert critic[3].weight.grad.abs().sum() > 0


def test_weights_are_read_at_each_call() -> None:
    critic, x = smooth(), torch.randn(4, 3)
    run = compiled(lambda x: gradient_penalty(critic, x, at="real", center=0))
    before = run(x).detach()
    with torch.no_grad():
        critic[-1].weight *= 2
    torch.testing.assert_close(run(x), 4 * before)


def test_several_inputs_and_labels() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_x, self.of_z = Labelled(), nn.Linear(2, 1)

        def forward(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
            return self.of_x(x, y) * self.of_z(z).tanh()[:, 0]

    critic, eps, y = Pairs(), torch.rand(5), torch.arange(5) % 4
    real, fake = ((torch.randn(5, 3), torch.randn(5, 2)) for _ in range(2))
    call = lambda real, fake: gradient_penalty(critic, real, fake, eps=eps, conditions=(y,))
    a, b = call(real, fake), compiled(call)(real, fake)
    torch.testing.assert_close(a, b)
    assert error(gradients(critic, b.sum()), {n: g.double() for n, g in gradients(critic, a.sum()).items()}) < 1e-6


def test_batch_norm_in_training_is_warned_of() -> None:
    critic = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    twin, x = copy.deepcopy(critic), torch.randn(5, 3).double()
    with pytest.warns(UserWarning, match="batch normalisation"):
        found = compiled(lambda x: gradient_penalty(twin, x, at="real"))(x)
    with pytest.warns(UserWarning, match="batch normalisation"):
        expected = gradient_penalty(critic, x, at="real")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(twin[1].running_var, critic[1].running_var)


def test_a_function_breaks_the_graph_and_is_right() -> None:
    critic, x = smooth(), torch.randn(4, 3)
    call = lambda x: gradient_penalty(lambda t: 2 * critic(t), x, at="real").sum()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"not an nn\.Module"):
        compiled(call)(x)
    torch._dynamo.reset()
    a, b = call(x), compiled(call, fullgraph=False)(x)
    torch.testing.assert_close(a, b)
    assert error(gradients(critic, b), {n: g.double() for n, g in gradients(critic, a).items()}) < 1e-6


def test_it_is_the_formula() -> None:
    critic, tensors = made("smooth")
    call = lambda **t: gradient_penalty(critic, at="around", **t)
    torch.testing.assert_close(compiled(call)(**tensors), written_out(critic, at="around", **tensors), rtol=1e-5, atol=1e-6)
