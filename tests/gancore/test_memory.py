"""The memory estimate of a dry run is measured: each storage once, for as long as autograd holds it."""

import torch
from torch.autograd.graph import saved_tensors_hooks

from gancore.memory import _Saved, estimate
from gancore.runs import open_run


def test_a_storage_counts_once_and_only_while_it_is_held():
    weight = torch.randn(100, requires_grad=True)
    saved = _Saved({weight.data_ptr()})
    with saved_tensors_hooks(saved.pack, lambda held: held.tensor):
        power = weight.exp()  # keeps its result
        square = power * power  # keeps it twice more
        assert (saved.now, saved.peak) == (400, 400)
        total = (square * weight).sum()  # keeps both factors; the weight is a parameter
        assert (saved.now, saved.peak) == (800, 800)
    total.backward()
    assert (saved.now, saved.peak) == (0, 800)


def test_the_memory_of_a_step_is_what_autograd_holds():
    def parts(batch: int) -> dict[str, int]:
        return estimate(open_run("gan-ns", data="ring8", steps=1, batch_size=batch).trainer)

    small, large = parts(64), parts(128)
    run = open_run("gan-ns", data="ring8")
    weights = 4 * sum(p.numel() for p in run.trainer.nets.parameters())
    assert small["parameters and buffers"] == small["gradients"] == weights
    assert 2 * weights <= small["optimiser states"] <= 2 * weights + 8 * len(list(run.trainer.nets.parameters()))
    # Three hidden layers of 128 units, kept once by G and once or twice by D, and everything grows with the batch.
    assert 3 * 128 * 64 * 4 < small["activations"] < 20 * 128 * 64 * 4
    assert large["activations"] == 2 * small["activations"]
