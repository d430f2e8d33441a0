"""toy-shift: t within 0.2 of 5; its ascent of the one loss knows nothing of the real sum."""

import pytest
import torch

from gancore.core import Nets, State
from gancore.recipes import get
from gancore.recipes.theory.toy_shift import game
from tests.accept import Clause, between

demo = get("toy-shift", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        between("final t", figures["final t"], 4.8, 5.2),
        between("L at the end, of 2 log 2", figures["L at the end"] / 1.386294, 0.97, 1.03),
    ]


def test_t_moves_towards_the_data():
    assert 0.5 < demo(shifts=40, batch=64)[0]["final t"] < 5.5
    assert -5.5 < demo(mean=-5.0, shifts=40, batch=64)[0]["final t"] < -0.5


def test_one_loss_descended_and_ascended():
    discriminator, generator = game(20, 0.05).stages[0].phases
    assert discriminator.loss is generator.loss
    assert discriminator.updates["D"] == {"real": 1.0, "fake": 1.0}
    assert generator.updates["G"] == {"real": -1.0, "fake": -1.0}
    assert (discriminator.repeats, generator.repeats) == (20, 1)


def test_the_real_term_does_not_know_t():
    recipe = game(1, 0.05)
    nets = Nets(recipe.nets(None))
    terms = recipe.stages[0].phases[0].loss(nets, {"x": torch.randn(8, 1), "z": torch.randn(8, 1)}, State())
    t = nets["G"].t
    assert torch.autograd.grad(terms["real"].mean(), t, allow_unused=True, materialize_grads=True)[0] == 0
    whole = torch.autograd.grad((terms["real"] + terms["fake"]).mean(), t, retain_graph=True)[0]
    assert whole != 0
    assert whole == pytest.approx(torch.autograd.grad(terms["fake"].mean(), t)[0].item())
