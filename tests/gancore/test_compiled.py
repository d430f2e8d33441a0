"""Compiled phases: what torch.compile makes of a loss equals the loss, with several routes and with a penalty."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gancore import losses, penalties
from gancore.core import Phase, Recipe, State
from tests.gancore.test_trainer_modes import critic, regression, squares
from tests.gancore.toys import go, plain, trainer, weights


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile without its code generator, which takes a minute for what these tests look at."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, mode: real(function, backend="aot_eager"))
    torch._dynamo.reset()


def penalised() -> Recipe:
    """A critic with a gradient penalty and a generator, under plain descent, which does not amplify rounding."""

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        fake = nets["G"](batch["x"])
        penalty = penalties.gradient_penalty(nets["D"], batch["x"], fake, eps=torch.full((8,), 0.3))
        return {"critic": nets["D"](fake)[:, 0] - nets["D"](batch["x"])[:, 0], "penalty": penalty}

    def generator(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"generator": -nets["D"](nets["G"](batch["x"]))[:, 0]}

    descent = Phase("critic", {"D": {"critic": 1.0, "penalty": 10.0}}, loss)
    phases = [descent, Phase("generator", {"G": {"generator": 1.0}}, generator)]
    return plain(lambda: {**critic(), "G": nn.Linear(2, 2)}, *phases, lr=0.01)


def routed() -> Recipe:
    """Three routes from one forward."""

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        code = nets["E"](batch["x"])
        again, score = nets["G"](code), nets["D"](nets["G"](code))[:, 0]
        return {"code": code.square().sum(1), "again": (again - batch["x"]).square().sum(1), "score": losses.bce(score, 0)}

    routes = {"E": {"code": 0.1, "again": 1.0}, "G": {"again": 1.0, "score": -1.0}, "D": {"score": 1.0}}
    return plain(lambda: {**critic(), "E": nn.Linear(2, 2), "G": nn.Linear(2, 2)}, Phase("p", routes, loss), lr=0.01)


@pytest.mark.parametrize("recipe", [penalised, routed])
@pytest.mark.usefixtures("traced")
def test_compiled_phases_equal_eager_ones(recipe: Callable[[], Recipe]) -> None:
    eager, compiled = (go(trainer(recipe(), compile=mode), 4) for mode in ("off", "default"))
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(compiled)[name], value, atol=1e-5, rtol=1e-5)
    records = [{k: v for k, v in run.tick().items() if "/" in k} for run in (eager, compiled)]
    assert records[0] == pytest.approx(records[1], abs=1e-5)


@pytest.mark.parametrize(("recipe", "graphs"), [(routed, 1), (penalised, 2)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("traced")
def test_compiled_phases_are_traced_once(recipe: Callable[[], Recipe], graphs: int, precision: str) -> None:
    """One graph a phase: not even a penalty breaks it."""
    torch._dynamo.utils.counters.clear()
    go(trainer(recipe(), compile="default", steps=8, precision=precision), 8)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [penalised, routed])
def test_phases_with_generated_code_equal_eager_ones(recipe: Callable[[], Recipe]) -> None:
    torch._dynamo.reset()
    eager, compiled = (go(trainer(recipe(), compile=mode), 2) for mode in ("off", "default"))
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(compiled)[name], value, atol=1e-5, rtol=1e-5)


def test_auto_compiles_nothing_on_a_cpu() -> None:
    run = trainer(regression(), steps=5000)
    assert run._losses["p"] is squares
