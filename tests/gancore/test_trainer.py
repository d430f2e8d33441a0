"""The loop: routes, cadence, stages, hooks, accumulation, averages, precision, compilation, and what it must not do."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore import recipes
from gancore.core import Field, Phase, Recipe, Stage, State, UsageError, sgd
from gancore.trainer import Trainer
from tests.gancore.toys import Scalar, differing, go, plain, trainer, vectors


def scalars(*names: str) -> Any:
    return lambda: {name: Scalar(1.0) for name in names}


def moves(run: Trainer) -> dict[str, float]:
    """How far each one-number player moved from 1, over the learning rate 0.1: the gradient it stepped along."""
    return {name: (1 - net.value.item()) / 0.1 for name, net in run.nets.items() if isinstance(net, Scalar)}


# -- routes -----------------------------------------------------------------------------------------------------------------


def three_routes(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
    """Like a VAE/GAN: E feeds G, G feeds D, and every term depends on all that comes before it."""
    e, g, d = nets["E"].value, nets["G"].value, nets["D"].value
    return {"KL": 3 * e, "feat": 5 * e * g * d, "gan": 7 * e * g * d}


def test_each_player_descends_its_own_route() -> None:
    routes = {"E": {"KL": 1.0, "feat": 1.0}, "G": {"feat": 0.5, "gan": -1.0}, "D": {"gan": 1.0}}
    run = go(trainer(plain(scalars("E", "G", "D"), Phase("p", routes, three_routes))), 1)
    # At e = g = d = 1: E gets 3 + 5 and none of gan, G 5/2 - 7, D 7 and none of feat.
    assert moves(run) == pytest.approx({"E": 8, "G": -4.5, "D": 7}, rel=1e-5)


def test_routes_of_real_networks() -> None:
    recipe = recipes.get("vaegan").function(gamma=0.3)
    run = trainer(recipe, seed=4)
    phase = recipe.stages[0].phases[0]
    with run.random():
        batch = run._draw(recipe.stages[0])
        state = torch.get_rng_state()
        terms = {k: t.mean() for k, t in phase.loss(run.nets, batch, run.state).items()}
        gan = terms["real"] + terms["decoded"] + terms["drawn"]
        routes = {
            "E": terms["divergence"] + terms["features"],
            "G": 0.3 * terms["features"] - terms["decoded"] - terms["drawn"],
            "D": gan,
        }
        expected = {p: torch.autograd.grad(v, list(run.nets[p].parameters()), retain_graph=True) for p, v in routes.items()}
        torch.set_rng_state(state)
        for optim in run.optims.values():
            optim.step = lambda: None  # keeps the gradients to look at
        run._update(phase, batch)
    for player, gradients in expected.items():
        for p, g in zip(run.nets[player].parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, g)


@contextmanager
def counted_backwards() -> Iterator[list]:
    calls: list = []
    plain_backward = Tensor.backward

    def backward(self: Tensor, *given: Any, **named: Any) -> None:
        calls.append(named)
        plain_backward(self, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "backward", backward)
        yield calls


@pytest.mark.parametrize(
    ("routes", "backwards"),
    [
        ({"E": {"KL": 1.0, "gan": 2.0}, "G": {"gan": 2.0, "KL": 1.0}}, 1),
        ({"E": {"gan": 1.0}, "G": {"gan": 2.0}}, 2),
        ({"E": {"gan": 1.0}, "G": {"gan": -1.0}, "D": {"gan": 1.0}}, 2),
        ({"E": {"KL": 1.0}, "G": {"feat": 1.0}, "D": {"gan": 1.0}}, 3),
    ],
)
def test_equal_routes_share_one_backward(routes: dict, backwards: int) -> None:
    run = trainer(plain(scalars("E", "G", "D"), Phase("p", routes, three_routes)))
    with counted_backwards() as calls:
        go(run, 1)
    assert len(calls) == backwards
    assert [c["retain_graph"] for c in calls] == [True] * (backwards - 1) + [False]


def test_a_negative_weight_ascends() -> None:
    phase = Phase("p", {"G": {"t": -2.0}}, lambda nets, batch, state: {"t": 3 * nets["G"].value})
    assert moves(go(trainer(plain(scalars("G"), phase)), 1)) == pytest.approx({"G": -6}, rel=1e-5)


def test_weights_may_be_ramps_and_controllers() -> None:
    def note(nets: nn.ModuleDict, state: State, terms: dict) -> None:
        state.k.add_(1)

    weight = {"ramp": lambda state: state.progress, "held": lambda state: -state.k}
    phase = Phase(
        "p",
        {"G": {"ramp": weight["ramp"]}, "D": {"held": weight["held"]}},
        lambda nets, batch, state: {"ramp": nets["G"].value, "held": nets["D"].value},
        after=note,
    )
    run = trainer(plain(scalars("G", "D"), phase, state=lambda: State(k=0.0)), steps=4)
    go(run, 4)
    # progress 0, 1/4, 2/4, 3/4 sums to 1.5; k 0, 1, 2, 3 to 6, ascended.
    assert moves(run) == pytest.approx({"G": 1.5, "D": -6}, rel=1e-4)
    assert float(run.state.progress) == 1
    assert int(run.state.step) == 4


def test_per_sample_terms_are_averaged() -> None:
    phase = Phase("p", {"G": {"t": 1.0}}, lambda nets, batch, state: {"t": nets["G"].value * torch.arange(8.0)})
    assert moves(go(trainer(plain(scalars("G"), phase)), 1)) == pytest.approx({"G": 3.5}, rel=1e-5)


def test_a_route_to_a_term_that_is_not_there() -> None:
    phase = Phase("p", {"G": {"mispelt": 1.0}}, lambda nets, batch, state: {"t": nets["G"].value})
    with pytest.raises(UsageError, match="routes 'mispelt', but its loss returns t"):
        go(trainer(plain(scalars("G"), phase)), 1)


# -- cadence ----------------------------------------------------------------------------------------------------------------


def recording(name: str, seen: list, **settings: Any) -> Phase:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        seen.append((name, int(state.step), batch["row"].tolist() if "row" in batch else None))
        return {"t": nets["G"].value}

    return Phase(name, {"G": {"t": 1.0}}, loss, **settings)


ROWS = {"data": {"x": Field("x"), "row": Field("row")}}


def test_repeats_and_every() -> None:
    seen: list = []
    phases = [recording("a", seen, repeats=3), recording("b", seen, every=2), recording("c", seen, every=3, repeats=2)]
    go(trainer(plain(scalars("G"), *phases)), 4)
    names = [[n for n, step, _ in seen if step == s] for s in range(4)]
    assert names == [list("aaabcc"), list("aaa"), list("aaab"), list("aaacc")]


def test_draw_decides_who_shares_a_batch() -> None:
    seen: list = []
    phases = [recording("a", seen, repeats=2), recording("b", seen, draw=False, repeats=2), recording("c", seen)]
    go(trainer(plain(scalars("G"), *phases, **ROWS)), 2)
    a, b, c, d, e = (rows for _, _, rows in seen[:5])
    assert a != b == c == d != e
    rows = [r for name, _, batch in seen for r in batch if name != "b"]
    assert len(set(rows[: len(rows)])) == 6 * 8  # nothing is visited twice within an epoch of 64


def test_a_first_phase_without_draw_gets_a_batch_of_its_own_step() -> None:
    seen: list = []
    go(trainer(plain(scalars("G"), recording("a", seen, draw=False), **ROWS)), 2)
    assert seen[0][2] != seen[1][2]


def test_when_gates_a_phase() -> None:
    seen: list = []
    phase = recording("a", seen, when=lambda state: int(state.step) % 2 == 1)
    run = go(trainer(plain(scalars("G"), phase, recording("b", seen))), 4)
    assert [(n, s) for n, s, _ in seen] == [("b", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 3), ("b", 3)]
    assert run._samples == 6 * 8


def test_prepare_and_after() -> None:
    log: list = []

    def prepare(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        log.append(("prepare", torch.is_grad_enabled(), nets["G"].value.item()))
        return {"x": torch.full((8, 1), 4.0) * nets["G"].value}

    def after(nets: nn.ModuleDict, state: State, terms: dict) -> None:
        log.append(("after", torch.is_grad_enabled(), nets["G"].value.item(), terms["t"].requires_grad, float(terms["t"])))
        nets["G"].value.clamp_(min=0.75)

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        assert not batch["x"].requires_grad
        return {"t": nets["G"].value * batch["x"][:, 0]}

    run = go(trainer(plain(scalars("G"), Phase("p", {"G": {"t": 1.0}}, loss, prepare=prepare, after=after))), 1)
    assert log == [("prepare", False, 1.0), ("after", False, pytest.approx(0.6), False, 4.0)]
    assert run.nets["G"].value.item() == 0.75


def test_data_may_be_a_function_of_networks_and_state() -> None:
    seen = []

    def draw(nets: nn.ModuleDict, state: State, n: int) -> dict:
        return {"x": nets["G"].value * torch.ones(n, 1)}

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        seen.append((batch["x"].shape, batch["x"].requires_grad))
        return {"t": nets["G"].value}

    go(trainer(plain(scalars("G"), Phase("p", {"G": {"t": 1.0}}, loss), data=draw)), 1)
    assert seen == [((8, 1), False)]


def test_columns_of_a_group_come_from_the_same_rows_and_others_do_not() -> None:
    streams = {"x": Field("x"), "row": Field("row"), "other": Field("row", "b"), "again": Field("x", "b")}
    run = trainer(plain(scalars("G"), recording("a", []), data=streams))
    source = vectors()
    for _ in range(3):
        batch = run._draw(run.recipe.stages[0])
        assert torch.equal(batch["x"], source.fields["x"][batch["row"]])
        assert torch.equal(batch["again"], source.fields["x"][batch["other"]])
        assert not torch.equal(batch["row"], batch["other"])


# -- who moves --------------------------------------------------------------------------------------------------------------


def test_a_shared_trunk_is_a_player() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"a": nets["T"].value * nets["A"].value * 2, "b": nets["T"].value * nets["B"].value * 3}

    phase = Phase("p", {"T": {"a": 1.0, "b": 1.0}, "A": {"a": 1.0}, "B": {"b": 1.0}}, loss)
    assert moves(go(trainer(plain(scalars("T", "A", "B"), phase)), 1)) == pytest.approx({"T": 5, "A": 2, "B": 3}, rel=1e-5)


def test_players_that_share_a_weight_are_refused() -> None:
    def players() -> dict:
        one = Scalar()
        return {"A": nn.Sequential(one), "B": nn.Sequential(one)}

    phase = Phase("p", {"A": {"t": 1.0}}, lambda nets, batch, state: {})
    with pytest.raises(UsageError, match="'A' and 'B' share a parameter"):
        trainer(plain(players, phase))


def test_frozen_players_need_no_graph_and_no_optimiser() -> None:
    frozen = []

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        frozen.append((nets["F"].value.requires_grad, nets["G"].value.requires_grad))
        return {"t": nets["F"].value * nets["G"].value}

    run = go(trainer(plain(scalars("G", "F"), Phase("p", {"G": {"t": 1.0}}, loss))), 2)
    assert frozen == [(False, True)] * 2
    assert run.nets["F"].value.item() == 1
    assert set(run.optims) == {"G"}


def test_weights_that_a_recipe_froze_stay_frozen() -> None:
    def players() -> dict:
        both = nn.ModuleDict({"fixed": Scalar(1.0).requires_grad_(False), "free": Scalar(1.0)})
        return {"G": both, "D": Scalar(1.0)}

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": nets["G"]["fixed"].value * nets["G"]["free"].value * nets["D"].value}

    phases = [Phase("d", {"D": {"t": 1.0}}, loss), Phase("g", {"G": {"t": 1.0}}, loss)]
    run = go(trainer(plain(players, *phases)), 3)
    assert run.nets["G"]["fixed"].value.item() == 1
    assert run.nets["G"]["free"].value.item() < 1
    assert not run.nets["G"]["fixed"].value.requires_grad


def test_a_multiplier_ascends_as_a_player() -> None:
    """min (x - 3)^2 subject to x = 1, by the Lagrangian: x goes to 1 and the multiplier to 4."""

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        x = nets["X"].value
        return {"cost": (x - 3) ** 2, "constraint": nets["multiplier"].value * (x - 1)}

    phase = Phase("p", {"X": {"cost": 1.0, "constraint": 1.0}, "multiplier": {"constraint": -1.0}}, loss)
    run = go(trainer(plain(lambda: {"X": Scalar(), "multiplier": Scalar()}, phase), steps=300), 300)
    assert run.nets["X"].value.item() == pytest.approx(1, abs=1e-3)
    assert run.nets["multiplier"].value.item() == pytest.approx(4, abs=1e-2)


def test_a_phase_may_have_an_optimiser_of_its_own() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": nets["G"].value}

    phases = [
        Phase("one", {"G": {"t": 1.0}}, loss),
        Phase("two", {"G": {"t": 1.0}}, loss, optims={"G": sgd(1.0, momentum=0.5)}),
    ]
    run = go(trainer(plain(scalars("G"), *phases)), 2)
    # 0.1 twice; momentum 0.5 at rate 1: 1, then 1.5.
    assert run.nets["G"].value.item() == pytest.approx(1 - 0.2 - 2.5, rel=1e-5)
    assert set(run.state_dict()["optims"]) == {"G", "two/G"}


# -- step= ------------------------------------------------------------------------------------------------------------------


def test_a_step_of_its_own_equals_the_same_update_through_losses() -> None:
    """The non-saturating game written by hand, with its own backward and optimiser steps: EQ(0) with `gan-ns`."""
    usual = recipes.get("gan-ns").function()

    def critic(nets: nn.ModuleDict, batch: dict, state: State, optims: dict) -> dict:
        real, fake = nets["D"](torch.cat([batch["x"], nets["G"](batch["z"]).detach()])).chunk(2)
        loss = (F.softplus(-real) + F.softplus(fake)).mean()
        optims["D"].zero_grad()
        loss.backward()
        optims["D"].step()
        return {"critic": loss}

    def generator(nets: nn.ModuleDict, batch: dict, state: State, optims: dict) -> dict:
        loss = F.softplus(-nets["D"](nets["G"](batch["z"]))).mean()
        optims["G"].zero_grad()
        loss.backward()
        optims["G"].step()
        return {"generator": loss}

    phases = [Phase("critic", {"D": {}}, step=critic), Phase("generator", {"G": {}}, step=generator)]
    by_hand = Recipe(usual.nets, usual.optims, [Stage("adversarial", 1.0, phases)], data=usual.data)
    a, b = go(trainer(usual), 5), go(trainer(by_hand), 5)
    assert not differing(a.state_dict(), b.state_dict())


def test_the_loop_equals_a_loop_by_hand() -> None:
    """G and D of `lsgan` under Adam and EMA, five steps: weights, averages and log equal bit for bit."""
    run = trainer(recipes.get("lsgan").function(), ema=0.9, seed=2)
    g, d = copy.deepcopy(run.nets["G"]), copy.deepcopy(run.nets["D"])
    mean = copy.deepcopy(g)
    optims = {net: torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999), fused=True) for net in (g, d)}
    batches, draw = [], run._draw
    run._draw = lambda stage: batches.append(draw(stage)) or batches[-1]
    go(run, 5)
    for step in range(5):
        batch = batches[2 * step]
        real, fake = d(torch.cat([batch["x"], g(batch["z"]).detach()])).chunk(2)
        descend(optims[d], (0.5 * (real - 1) ** 2 + 0.5 * fake**2).mean())
        batch = batches[2 * step + 1]
        descend(optims[g], (0.5 * (d(g(batch["z"])) - 1) ** 2).mean())
        decay = min(0.9, (1 + step) / (10 + step))
        for a, b in zip(mean.parameters(), g.parameters(), strict=True):
            a.data.lerp_(b.data, 1 - decay)
    assert not differing(run.nets["G"].state_dict(), g.state_dict())
    assert not differing(run.nets["D"].state_dict(), d.state_dict())
    assert not differing(run.average.nets["G"].state_dict(), mean.state_dict())


def descend(optim: torch.optim.Optimizer, loss: Tensor) -> None:
    optim.zero_grad()
    loss.backward()
    optim.step()
