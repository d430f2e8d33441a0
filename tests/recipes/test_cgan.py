"""cgan: on ring8 with its labels, conditional accuracy 0.95 and 8 modes; permuted labels between the players: at most 0.25."""

from dataclasses import replace

import numpy
import pytest
import torch

import gancore
from gancore import evaluation
from gancore.core import Nets, Options, Recipe
from gancore.recipes import get
from gancore.runs import Run
from tests.accept import RING, Clause, at_least, at_most, quiet, ring


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("cgan", 0.75, seed, modes=8)
    return [*clauses, at_least("accuracy of the asked label", accuracy(run), 0.95)]


def controls(seed: int) -> list[Clause]:
    """The critic is told another label than G was, so nothing ties what G draws to what it was asked."""
    settings = quiet({**RING, "steps": 1000, "seed": seed})
    rate = settings.pop("lr")

    def apart() -> Recipe:
        recipe = get("cgan").function(lr=rate)
        (stage,) = recipe.stages
        return replace(recipe, stages=[replace(stage, phases=[replace(p, loss=_permuted(p.loss)) for p in stage.phases])])

    run = Run(replace(get("cgan"), function=apart), Options(**settings), {})
    return [at_most("control: accuracy with permuted labels", accuracy(run.train()), 0.25)]


def _permuted(loss):
    def permuted(nets, batch, state):
        generator = nets["G"]

        class Elsewhere(torch.nn.Module):
            def forward(self, z, c):
                return generator(z, c[torch.randperm(len(c))])

        return loss(Nets({"G": Elsewhere(), "D": nets["D"]}), batch, state)

    return permuted


def accuracy(run: Run) -> float:
    labels = torch.arange(4000) % 8
    return (evaluation.judge(run.data).nearest(run.sample(4000, y=labels)) == labels).float().mean().item()


def test_both_players_receive_the_label():
    run = gancore.train("cgan", data="ring8", steps=2, batch_size=16)
    z, x, one, two = torch.randn(4, 8), torch.randn(4, 2), torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    assert not torch.equal(run.nets["G"](z, one), run.nets["G"](z, two))
    assert not torch.equal(run.nets["D"](x, one), run.nets["D"](x, two))


def test_unlabelled_data_are_refused(tmp_path):

    numpy.save(tmp_path / "x.npy", numpy.random.default_rng(0).normal(size=(64, 2)).astype("float32"))
    with pytest.raises(gancore.core.GancoreError, match="label"):
        gancore.train("cgan", data=str(tmp_path / "x.npy"), steps=1)


