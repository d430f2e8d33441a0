"""A critic's whole phase as a CUDA graph: captured once, replayed on new points, equal to the same phase run eagerly."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gancore.penalties import critic_step, gradient_penalty
from tests.gancore.critics import plain

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
N = 16


def by_autograd(critic: nn.Module, real: Tensor, fake: Tensor, eps: Tensor) -> None:
    (critic(fake) - critic(real)).mean().add(10 * gradient_penalty(critic, real, fake, eps=eps).mean()).backward()


def by_passes(critic: nn.Module, real: Tensor, fake: Tensor, eps: Tensor) -> None:
    critic_step(critic, real, fake, eps=eps)


@pytest.mark.parametrize("phase", [by_autograd, by_passes])
@pytest.mark.parametrize("low", [None, torch.bfloat16])
def test_a_captured_phase_replays_on_new_points(phase, low) -> None:
    critic = plain().cuda()
    twin = copy.deepcopy(critic)
    draw = lambda: [torch.randn(N, 3, 8, 8, device="cuda"), torch.randn(N, 3, 8, 8, device="cuda"), torch.rand(N, device="cuda")]
    static = draw()

    def update(model: nn.Module, points: list[Tensor]) -> None:
        for p in model.parameters():
            p.grad.zero_()
        with torch.autocast("cuda", low, enabled=low is not None, cache_enabled=False):
            phase(model, *points)

    for model in (critic, twin):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            update(critic, static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update(critic, static)
    for _ in range(2):
        points = draw()
        for held, new in zip(static, points, strict=True):
            held.copy_(new)
        graph.replay()
        update(twin, points)
        for ours, theirs in zip(critic.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3 if low is None else 3e-2, atol=1e-4)
