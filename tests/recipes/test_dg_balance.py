"""dg-balance: exact counters of updates under each policy; the gate keeps D's measured accuracy at or below 85 % on ring8."""

import pytest
import torch

import gancore
from gancore.recipes import get
from gancore.runs import Run
from tests.accept import Clause, at_least, at_most

RUN = {"data": "ring8", "net": "toy", "batch_size": 256, "lr": 1e-3, "ratio": 4.0, "critic_steps": 5}


def accept(seed: int) -> list[Clause]:
    gated, free = (accuracies(seed, gate=gate) for gate in (0.8, 1.0))
    return [
        at_most("accuracy of D under the gate, mean", sum(gated) / len(gated), 0.85),
        at_most("accuracy of D under the gate, largest of 50 steps", max(gated), 0.85),
        at_least("largest accuracy of 50 steps without it", max(free), 0.86),
    ]


def accuracies(seed: int, steps: int = 600, window: int = 50, **parameters: float) -> list[float]:
    """D's accuracy, measured after each step, averaged over windows."""
    seen: list[float] = []

    def watch(run: Run, record: dict) -> None:
        with torch.no_grad():
            real = run.data.all()["x"][len(seen) * 64 % 60_000 :][:512]
            fake = run.trainer.nets["G"](torch.randn(512, run.trainer.nets["G"].latent))
            right = torch.cat([run.trainer.nets["D"](real) > 0, run.trainer.nets["D"](fake) <= 0])
        seen.append(right.float().mean().item())

    gancore.train("dg-balance", watch, seed=seed, steps=steps, log_every=1, save_every=steps, **{**RUN, **parameters})
    return [sum(seen[i : i + window]) / window for i in range(0, len(seen), window)]


def counted(steps: int, **parameters: float) -> tuple[int, int]:
    """Updates that D and G took."""
    run = gancore.train("dg-balance", data="ring8", steps=steps, batch_size=32, **parameters)
    found = []
    for player in ("D", "G"):
        states = run.trainer.optims[player].state.values()
        found.append(int(max((s["step"].item() for s in states), default=0)))
    return found[0], found[1]


@pytest.mark.parametrize(("critic", "generator"), [(1, 1), (5, 1), (1, 4), (3, 2)])
def test_updates_are_counted_exactly(critic, generator):
    assert counted(6, critic_steps=critic, generator_steps=generator) == (6 * critic, 6 * generator)


def test_a_gate_of_0_lets_d_never_move_and_g_always():
    assert counted(5, gate=0.0) == (0, 5)


def test_the_gate_is_asked_at_every_update():
    d, g = counted(60, gate=0.55, ratio=20.0)
    assert 0 < d < 60
    assert g == 60


def test_rates_are_in_the_ratio():
    recipe = get("dg-balance").function(ratio=4.0, lr=1e-3)
    assert recipe.optims["D"].lr == pytest.approx(4e-3)
    assert recipe.optims["G"].lr == pytest.approx(1e-3)
