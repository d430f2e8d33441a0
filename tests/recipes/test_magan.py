"""magan: DIG(60, 8); the margin only falls and ends below where pre-training left it; without its update the run is ebgan's."""

from itertools import pairwise

import torch

import gancore
from gancore.core import State
from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, dig


def accept(seed: int) -> list[Clause]:
    run, clauses = dig("magan", 60, 8, seed, pretrain=0.02, log_every=10)
    trace = [record["state/margin"] for record in run.metrics if record["stage"] == "adversarial"]
    rises = max(b - a for a, b in pairwise(trace))
    return [
        *clauses,
        at_most("largest rise of the margin", rises, 0),
        at_most("margin at the end over that at the start", trace[-1] / trace[0], 0.999),
        at_least("margin at the end", trace[-1], 1e-6),
    ]


def test_without_its_update_it_is_ebgan():
    options = {"data": "digits8", "steps": 12, "batch_size": 16, "seed": 3, "margin": 5.0}
    ours = gancore.train("magan", pretrain=0.0, adapt=False, **options)
    theirs = gancore.train("ebgan", **options)
    weights = [run.trainer.nets.state_dict() for run in (ours, theirs)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_rule_of_the_margin():
    recipe = get("magan").function(epoch=2, margin=0.0)
    start, follow = recipe.stages[0].phases[0].after, recipe.stages[1].phases[0].after
    state: State = recipe.state()
    tell = lambda hook, real, fake: hook(None, state, {"real": torch.tensor(real), "fake": torch.tensor(fake)})
    start(None, state, {"real": torch.tensor(3.0)})
    assert state.margin == 0
    start(None, state, {"real": torch.tensor(5.0)})
    assert state.margin == 4.0
    margins = []
    for real, fake in ((3.0, 6.0), (2.0, 5.0), (2.5, 2.4), (2.6, 7.0), (9.0, 9.0)):
        tell(follow, real, fake)
        tell(follow, real, fake)
        margins.append(state.margin.item())
    # lowered; fakes fell; data above fakes; lowered no more, for 2.6 is below 3; above the margin
    assert margins == [3.0, 3.0, 3.0, float(torch.tensor(2.6)), float(torch.tensor(2.6))]
