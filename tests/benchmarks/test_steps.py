"""The training steps of `gancore bench operators`: they agree with plain PyTorch, and a step that does not is refused."""

import pytest
import torch

from gancore.benchmarks import batch, steps

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp"])
def test_a_step_is_that_of_plain_pytorch(name):
    ours, other = (batch.trainer_of(name, 8, CPU, 16, 8, compile="off") for _ in range(2))
    start = [p.detach().clone() for p in ours.nets.parameters()]
    plain = steps.Plain(name, other)
    for trainer, step in ((ours, ours.step), (other, plain.step)):
        with trainer.random():
            step()
    assert steps.off(start, list(ours.nets.parameters()), list(other.nets.parameters())) < steps.BOUND
    assert steps.off(start, start, list(other.nets.parameters())) == 1


def test_a_step_that_is_wrong_is_refused(monkeypatch):
    made = batch.trainer_of

    def faster(*given, **options):
        trainer = made(*given, **options)
        trainer.optims["D"].param_groups[0]["lr"] *= 1.2
        return trainer

    monkeypatch.setattr(batch, "trainer_of", faster)
    (point,) = steps.measure("dcgan", CPU, quick=True)
    assert "off by" in point["refused"]


def test_a_weight_that_is_not_finite_is_never_right():
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert steps.off([one], [nan], None) == steps.off([one], [nan], [one + 1]) == float("inf")
    assert steps.off([one], [one], None) == 0
