"""Where batches come from: parts of a data set, prepared batches that later phases share, what a phase's own step refuses."""

import pytest
import torch
from torch import nn

from gancore.core import DataError, DataSpec, Field, Options, Phase, Recipe, Stage, UsageError, sgd
from gancore.data import Dataset
from gancore.trainer import Trainer


def build(phases, data, source, **options):
    recipe = Recipe(lambda spec: {"G": nn.Linear(1, 1)}, {"G": sgd(0.1)}, [Stage("one", 1.0, phases)], data=data)
    settings = Options(**{"steps": 6, "batch_size": 4, "ema": 0.0, **options})
    return Trainer(recipe, source, settings, DataSpec((1,)), torch.device("cpu"))


def step(trainer, n=1):
    with trainer.random():
        for _ in range(n):
            trainer.step()


def two_domains():
    target = Dataset("target", {"x": torch.full((7, 1), 5.0)})
    return Dataset("source", {"x": torch.zeros(40, 1)}, parts={"target": target})


def test_a_group_named_like_a_part_draws_from_it():
    seen = []

    def loss(nets, batch, state):
        seen.append({name: t.clone() for name, t in batch.items()})
        return {"t": nets["G"](batch["a"]).sum()}

    data = {"a": Field("x"), "b": Field("x", group="target"), "c": Field("x", group="again")}
    step(build([Phase("p", {"G": {"t": 1.0}}, loss)], data, two_domains()), 3)
    assert all(len(b["b"]) == 4 and (b["b"] == 5).all() for b in seen)  # 12 rows of a part of 7: its own epochs
    assert all((b["a"] == 0).all() and (b["c"] == 0).all() for b in seen)


def test_a_column_that_the_part_lacks_is_named():
    data = {"a": Field("x"), "b": Field("y", group="target")}
    with pytest.raises(DataError, match="target: the recipe needs labels"):
        build([Phase("p", {"G": {"t": 1.0}}, lambda *a: {})], data, two_domains())


def test_parts_count_in_the_digest_and_move_with_the_set():
    one, other = two_domains(), two_domains()
    other.parts["target"].fields["x"][0] = 6
    assert one.digest() == two_domains().digest() != other.digest()
    assert one.to("cpu").parts["target"].shape == (1,)


def test_a_prepared_batch_serves_the_phases_that_do_not_draw():
    prepared, seen = [], []

    def prepare(nets, batch, state):
        prepared.append(len(prepared))
        return {**batch, "rollout": torch.full((4, 1), float(len(prepared)))}

    def loss(nets, batch, state):
        seen.append(batch["rollout"][0].item())
        return {"t": nets["G"](batch["x"]).sum()}

    phases = [Phase("a", {"G": {"t": 1.0}}, loss, prepare=prepare), Phase("b", {"G": {"t": 1.0}}, loss, draw=False)]
    step(build(phases, {"x": Field("x")}, two_domains()), 2)
    assert len(prepared) == 2
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize("option", [{"micro_batch": 2}, {"clip": 1.0}, {"precision": "fp16"}])
def test_a_step_of_its_own_refuses_what_does_not_reach_it(option):
    phase = Phase("own", {"G": {"t": 1.0}}, step=lambda nets, batch, state, optims: {})
    with pytest.raises(UsageError, match=next(iter(option))):
        build([phase], {"x": Field("x")}, two_domains(), **option)


def test_a_step_of_its_own_runs_under_autocast():
    seen = []

    def own(nets, batch, state, optims):
        seen.append(nets["G"](batch["x"]).dtype)
        return {}

    step(build([Phase("own", {"G": {}}, step=own)], {"x": Field("x")}, two_domains(), precision="bf16"))
    assert seen == [torch.bfloat16]
