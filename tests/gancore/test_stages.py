"""Stages: shares and their boundaries, data and hooks of their own, frozen copies."""

from typing import Any

import pytest
import torch
from torch import nn

from gancore.core import Field, Phase, Recipe, Stage, State, sgd
from tests.gancore.test_trainer import ROWS, recording, scalars
from tests.gancore.toys import Scalar, differing, go, plain, trainer


def test_stages_take_their_shares_with_their_own_data_and_hooks() -> None:
    seen, entered = [], []

    def stage(name: str, share: float, **settings: Any) -> Stage:
        def enter(nets: nn.ModuleDict, state: State) -> None:
            entered.append((name, int(state.step), torch.is_grad_enabled()))

        return Stage(name, share, [recording(name, seen)], enter=enter, **settings)

    own = {"x": Field("x"), "row": Field("y")}
    stages = [stage("a", 1.0), stage("b", 2.0, data=own), stage("c", 1.0)]
    run = go(trainer(plain(scalars("G"), stages=stages, **ROWS), steps=10), 10)
    # Quarter, half, quarter of 10: up to round(2.5) = 2, up to round(7.5) = 8, the rest.
    assert [n for n, _, _ in seen] == list("aabbbbbbcc")
    assert entered == [("a", 0, False), ("b", 2, False), ("c", 8, False)]
    assert max(seen[2][2]) < 4 <= max(seen[0][2])
    assert run.tick()["stage"] == "c"


def test_boundaries_are_exact_for_awkward_shares() -> None:
    for shares in ([0.1] * 10, [1, 1, 1], [0.3, 0.3, 0.4], [1e-3, 1.0], [7, 3]):
        for steps in (3, 10, 997, 2000):
            seen: list = []
            stages = [Stage(str(i), s, [recording(str(i), seen)]) for i, s in enumerate(shares)]
            run = trainer(plain(scalars("G"), stages=stages), steps=steps)
            names = [run._stage_at(i).name for i in range(steps)]
            assert sorted(names, key=int) == names
            for i, share in enumerate(shares):
                assert abs(names.count(str(i)) - steps * share / sum(shares)) <= 1


def frozen_copy() -> Recipe:
    def enter(nets: nn.ModuleDict, state: State) -> None:
        nets["old"] = Scalar(nets["G"].value.item()).requires_grad_(False)

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": nets["G"].value * nets["old"].value}

    pre = Stage("pre", 1.0, [Phase("pre", {"G": {"t": 1.0}}, lambda nets, batch, state: {"t": nets["G"].value})])
    return plain(scalars("G"), stages=[pre, Stage("main", 1.0, [Phase("main", {"G": {"t": 1.0}}, loss)], enter=enter)])


def test_a_hook_may_add_a_frozen_copy_that_checkpoints_and_samplers_see() -> None:
    whole = go(trainer(frozen_copy(), steps=4), 4)
    # 1 - 0.1 - 0.1 = 0.8 is copied; then - 0.1 * 0.8 twice.
    assert whole.nets["old"].value.item() == pytest.approx(0.8)
    assert whole.nets["G"].value.item() == pytest.approx(0.64)
    assert whole.nets["old"].value.grad is None
    assert "old" in whole.average.nets
    for cut in (1, 2, 3):
        state = go(trainer(frozen_copy(), steps=4), cut).state_dict()
        resumed = trainer(frozen_copy(), steps=4)
        resumed.load_state_dict(state)
        assert not differing(go(resumed, 4 - cut).state_dict(), whole.state_dict())


def test_one_phase_may_serve_in_two_stages_with_one_optimiser_state() -> None:
    phase = Phase("p", {"G": {"t": 1.0}}, lambda nets, batch, state: {"t": nets["G"].value})
    recipe = plain(scalars("G"), stages=[Stage("a", 1.0, [phase]), Stage("b", 1.0, [phase])], optims={"G": sgd(0.1, momentum=0.9)})
    run = go(trainer(recipe, steps=2), 2)
    assert run.nets["G"].value.item() == pytest.approx(1 - 0.1 - 0.19)
    assert set(run.optims) == {"G"}
