"""Large batches: what fits into memory, learning rates that follow the batch, and players that run again for their gradients."""

from dataclasses import replace

import pytest
import torch

import gancore
from gancore import capacity
from gancore.core import Options, UsageError
from gancore.core.options import AUTO
from gancore.memory import estimate
from gancore.runs import open_run

TINY = {"data": "digits8", "net": "toy", "steps": 3}


@pytest.mark.parametrize("budget", [1000, 1999, 5000, 123_456])
def test_the_largest_is_found_where_need_is_linear(budget):
    need = lambda size: 100.0 + 10 * size
    found = capacity.largest(need, budget, 4096)
    assert found % 8 == 0
    assert need(found) <= budget
    assert found + 8 > 4096 or need(found + 8) > budget


def test_the_largest_is_found_where_need_is_not_linear():
    need = lambda size: 100.0 + 10 * size + (2000.0 if size > 200 else 0.0)
    found = capacity.largest(need, 2500, 4096)
    assert found == 200 // 8 * 8


def test_out_of_memory_is_a_size_that_does_not_fit():
    need = lambda size: float("inf") if size > 640 else 10.0 * size
    assert capacity.largest(need, 1e9, 4096) == 640


def test_nothing_fits():
    with pytest.raises(UsageError, match="a batch of 8 needs"):
        capacity.largest(lambda size: 1e9 * size, 1e9, 64)


def test_auto_fills_the_memory_that_is_given():
    fixed = estimate(open_run("wgan", batch_size=8, **TINY).trainer)["total"]
    run = gancore.train("wgan", batch_size="auto", memory=1.1 * fixed / 1e9, **TINY)
    chosen = run.options.batch_size
    assert chosen > 8
    assert chosen % 8 == 0
    assert estimate(open_run("wgan", batch_size=chosen, **TINY).trainer)["total"] <= 1.1 * fixed
    assert estimate(open_run("wgan", batch_size=chosen + 8, **TINY).trainer)["total"] > 1.1 * fixed
    assert run.describe()["options"]["batch_size"] == chosen


def test_micro_batches_are_chosen_for_a_given_batch():
    fixed = estimate(open_run("wgan", batch_size=64, **TINY).trainer)["total"]
    run = open_run("wgan", batch_size=512, micro_batch="auto", memory=1.02 * fixed / 1e9, **TINY)
    assert 8 <= run.options.micro_batch < 512
    assert run.options.batch_size == 512
    enough = open_run("wgan", batch_size=64, micro_batch="auto", memory=10.0, **TINY)
    assert enough.options.micro_batch == 0


def test_the_command_line_takes_the_word():
    from gancore.arguments import parse

    assert parse("batch_size", "auto", int) == AUTO
    with pytest.raises(UsageError, match="steps must be a whole number"):
        parse("steps", "auto", int)


@pytest.mark.parametrize(("how", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_learning_rates_follow_the_batch(how, factor):
    usual = open_run("wgan", **TINY).trainer
    scaled = open_run("wgan", batch_size=256, lr_scaling=how, **TINY).trainer
    for key, optim in scaled.optims.items():
        assert optim.param_groups[0]["lr"] == pytest.approx(factor * usual.optims[key].param_groups[0]["lr"])
        assert optim.param_groups[0]["initial_lr"] == optim.param_groups[0]["lr"]
    assert Options(batch_size=256, lr_scaling=how, lr_batch=256).lr_factor == 1.0


@pytest.mark.parametrize("name", ["wgan-gp", "dcgan", "projection-gan", "sn-gan"])
def test_recomputing_gives_the_same_weights(name):
    """Bit for bit, with double backward, batch statistics, classes and power iterations."""
    options = {"data": "digits", "size": 16, "net": "dcgan", "width": 4, "batch_size": 8, "steps": 2, "save_every": 9}
    once, again = (gancore.train(name, recompute=wanted, **options).trainer.nets.state_dict() for wanted in (False, True))
    for key, value in once.items():
        assert torch.equal(value, again[key]), key


def test_recomputing_keeps_fewer_activations():
    options = {"data": "digits", "size": 16, "net": "dcgan", "width": 16, "batch_size": 64, "steps": 2}
    held = [estimate(open_run("dcgan", recompute=wanted, **options).trainer)["activations"] for wanted in (False, True)]
    assert held[1] < 0.9 * held[0]


def test_options_that_cannot_be():
    for wrong in ({"memory": -1.0}, {"lr_scaling": "cubic"}, {"lr_batch": 0}, {"batch_size": 0}, {"batch_size": -2}):
        with pytest.raises(UsageError):
            replace(Options(), **wrong)
