"""Constraints: Fisher's second moment, weights in a box, spectral normalisation and its power iteration in checkpoints."""

import pytest
import torch
from torch import nn

from gancore.core import Nets, Phase, State
from gancore.layers import spectral
from gancore.penalties import gradient_penalty
from gancore.regularizers import clip_weights, fisher, fisher_multiplier, second_moment
from tests.gancore.toys import differing, go, plain, trainer


def test_the_second_moment_and_what_it_costs() -> None:
    real, fake = torch.tensor([1.0, -3.0]), torch.tensor([2.0, 0.0, 0.0, 0.0])
    moment = second_moment(real, fake)
    assert float(moment) == pytest.approx(3.0)
    weight = torch.tensor(0.5, requires_grad=True)
    cost = fisher(moment, weight, rho=0.1)
    assert float(cost) == pytest.approx(0.5 * 2 + 0.05 * 4)
    assert not cost.requires_grad, "the multiplier is no part of what the critic descends"


def test_a_constrained_critic_comes_to_moment_one() -> None:
    """f(x) = w x with data at 2 and fakes at 0: w wants to infinity, and is held at (2 w)^2 / 2 = 1."""

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        real, fake = nets["D"](torch.full((4, 1), 2.0))[:, 0], nets["D"](torch.zeros(4, 1))[:, 0]
        moment = second_moment(real, fake)
        return {"critic": fake - real, "fisher": fisher(moment, state.multiplier, 0.1), "moment": moment}

    phase = Phase("critic", {"D": {"critic": 1.0, "fisher": 1.0}}, loss, after=fisher_multiplier(rho=0.1), whole_batch=True)
    nets = lambda: {"D": nn.Linear(1, 1, bias=False)}
    run = go(trainer(plain(nets, phase, lr=0.05, state=lambda: State(multiplier=0.0)), steps=400), 400)
    moment = second_moment(run.nets["D"](torch.full((4, 1), 2.0)).detach(), torch.zeros(4))
    assert float(moment) == pytest.approx(1.0, abs=0.02)


def test_weights_in_a_box() -> None:
    nets = Nets({"D": nn.Linear(3, 3)})
    before = nets["D"].weight.detach().clone()
    with torch.no_grad():
        clip_weights("D", 0.1)(nets, State(), {})
    torch.testing.assert_close(nets["D"].weight, before.clamp(-0.1, 0.1))


def test_spectral_normalisation_bounds_the_slope_and_resumes() -> None:
    """Power iterations go on from the checkpoint: their vectors are buffers."""

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"critic": -nets["D"](batch["x"])[:, 0].square()}

    def recipe() -> object:
        torch.manual_seed(0)
        critic = lambda: {"D": spectral(nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)))}
        return plain(critic, Phase("critic", {"D": {"critic": 1.0}}, loss), lr=0.02)

    whole = go(trainer(recipe(), steps=40), 40)
    half = go(trainer(recipe(), steps=40), 20)
    saved = half.state_dict()
    assert [name for name in saved["nets"] if name.endswith("_u")]
    rest = trainer(recipe(), steps=40)
    rest.load_state_dict(saved)
    assert not differing(go(rest, 20).state_dict()["nets"], whole.state_dict()["nets"])
    slopes = gradient_penalty(whole.nets["D"].eval(), torch.randn(64, 2), at="real", center=0.0).sqrt()
    assert float(slopes.max()) < 1.05


def test_the_float16_scale_of_a_penalty_is_in_checkpoints() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"penalty": 1e-4 * gradient_penalty(nets["D"], batch["x"], at="real")}

    def critic() -> dict:
        torch.manual_seed(1)
        built = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            built[2].weight *= 1000
        return {"D": built}

    recipe = plain(critic, Phase("critic", {"D": {"penalty": 1.0}}, loss), lr=1e-4)
    saved = go(trainer(recipe, precision="fp16"), 2).state_dict()
    assert float(saved["attached"]["D:penalty_scale"]) < 1
    other = trainer(recipe, precision="fp16")
    other.load_state_dict(saved)
    assert not differing(other.state_dict()["attached"], saved["attached"])
    older = {key: value for key, value in saved.items() if key != "attached"}
    trainer(recipe, precision="fp16").load_state_dict(older)
