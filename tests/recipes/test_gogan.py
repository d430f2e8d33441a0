"""gogan: on ring8 stage 2 halves the gap that its critic sees to stage 1, and quality never falls with a stage."""

import pytest
import torch

import gancore
from gancore import data
from gancore.core import DataSpec, Nets, State
from gancore.recipes import get
from gancore.runs import Run
from tests.accept import RING, Clause, at_least, at_most, quiet, seeded

# Stages short enough that each leaves something to the next.
SETTINGS = {"steps": 300, "clip_value": 0.1, "lr": 1e-3, "ema": 0.95}


def accept(seed: int) -> list[Clause]:
    run = gancore.train("gogan", seed=seed, **quiet({**RING, **SETTINGS}))
    gap, hq = judged(run, seed)
    return [
        at_least("modes of ring8", run.evaluate()["modes"], 7),
        at_most("critic 2's gap to generator 2, of that to generator 1", gap[1] / gap[0], 0.5),
        at_least("high-quality share gained by stage 2", hq[1] - hq[0], 0),
        at_least("high-quality share gained by stage 3", hq[2] - hq[1], 0),
    ]


@torch.no_grad()
def judged(run: Run, seed: int) -> tuple[list[float], list[float]]:
    """Of each generator: E D(x) - E D(g) by critic 2, and the high-quality share."""
    with seeded(seed):
        z = torch.randn(8192, run.nets["G1"].latent)
    x, oracle, judge = run.data.take(torch.arange(8192))["x"], data.oracle("ring8"), run.nets["D2"]
    fakes = [run.nets[f"G{i}"](z) for i in (1, 2, 3)]
    return [(judge(x).mean() - judge(g).mean()).item() for g in fakes], [oracle.quality(g)["hq"] for g in fakes]


class Plane(torch.nn.Module):
    """A critic whose score is the first coordinate, and a generator that returns what it is given, moved by `shift`."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] + self.shift if x.shape[1] == 2 else torch.cat([x, 0 * x], 1) + self.shift


def terms(number: int, gap: float, before: float, margin: float = 1.0) -> tuple[dict, Nets]:
    """Of critic `number` where data score 0, its fakes -gap and those of the stage before -before."""
    stage = get("gogan").function(margin=margin).stages[number - 1]
    nets = Nets({"G1": Plane(-before), "G2": Plane(-gap), "D2": Plane()} if number == 2 else {"G1": Plane(-gap), "D1": Plane()})
    batch = {"x": torch.zeros(3, 2), "z": torch.zeros(3, 1)}
    return stage.phases[0].loss(nets, batch, State()), nets


@pytest.mark.parametrize(("gap", "cost"), [(0.0, 1.0), (0.4, 0.6), (1.1, 0.0), (-2.0, 3.0)])
def test_the_margin_costs_what_is_missing(gap: float, cost: float):
    torch.testing.assert_close(terms(1, gap, 0)[0]["margin"], torch.full((3,), cost))


def test_gaps_beyond_the_margin_give_no_gradient():
    for gap, moves in ((0.9, True), (1.1, False)):
        found, nets = terms(1, gap, 0)
        assert set(found) == {"margin"}
        found["margin"].sum().backward()
        assert bool(nets["G1"].shift.grad) is moves


def test_the_second_stage_asks_half_the_margin_and_ranks_the_first():
    found, _ = terms(2, gap=0.2, before=0.3)
    torch.testing.assert_close(found["margin"], torch.full((3,), 0.3))
    torch.testing.assert_close(found["ranking"], torch.full((3,), 0.7))


def test_stages_start_from_those_before_which_stay():
    run = gancore.train("gogan", data="ring8", steps=3, batch_size=8, width=8, critic_steps=1, ema=0.0)
    recipe, nets = run.recipe, run.trainer.nets
    assert [stage.name for stage in recipe.stages] == ["stage 1", "stage 2", "stage 3"]
    kept = {name: w.clone() for name, w in nets.state_dict().items() if name[1] in "12"}
    with torch.no_grad():
        recipe.stages[2].enter(nets, run.trainer.state)
    for name, w in kept.items():
        assert torch.equal(nets.state_dict()[name], w)
        if name[1] == "2":
            assert torch.equal(nets.state_dict()[name.replace("2", "3", 1)], w)


def test_samples_come_from_the_stage_that_was_reached():
    recipe = get("gogan").function()
    with seeded(0):
        nets, state = Nets(recipe.nets(DataSpec((2,), width=8))), recipe.state()
    for i in (1, 2, 3):
        with torch.no_grad(), seeded(1):
            if i > 1:
                nets[f"D{i}"].body.head.bias.add_(i)
            recipe.stages[i - 1].enter(nets, state)
            nets[f"G{i}"].body.head.bias.add_(1)
            found = recipe.sample(nets, 5, state)
        with seeded(1), torch.no_grad():
            assert torch.equal(found, nets[f"G{i}"](torch.randn(5, 8)))


def test_weights_stay_in_the_box():
    run = gancore.train("gogan", data="ring8", steps=3, batch_size=8, width=8, clip_value=0.03, lr=1e-2)
    for i in (1, 2, 3):
        assert max(w.abs().max().item() for w in run.nets[f"D{i}"].parameters()) <= 0.03 + 1e-6
