"""A run that is killed goes on bit for bit: twenty steps equal ten, SIGKILL, and ten more."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gancore import evaluation, runs
from gancore.core import Diverged
from tests.gancore.toys import differing, flat

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from gancore import evaluation, runs
evaluation.scores = lambda sample, dataset, count: {"spread": float(sample(64).std())}  # a figure that needs no judge

kill, options = int(sys.argv[1]), json.loads(sys.argv[2])

def listener(run, record):
    if run.trainer.steps_done == kill:
        os.kill(os.getpid(), signal.SIGKILL)

runs.train(options.pop("recipe"), listener, **options)
"""
SPREAD = lambda sample, dataset, count: {"spread": float(sample(64).std())}


OPTIONS = {
    "data": "ring8", "steps": 20, "batch_size": 16, "width": 8, "log_every": 2, "save_every": 10, "seed": 3, "schedule": "linear",
    "compile": "off", "device": "cpu",
}  # fmt: skip


def start(kill: int, **options: object) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(kill), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode


def log(out: Path) -> list[dict]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in ("speed", "seconds")} for r in records]


@pytest.mark.parametrize(("recipe", "precision", "kill"), [("began", "fp32", 14), ("vaegan", "bf16", 12)])
def test_killed_after_ten_steps_and_resumed_equals_twenty(tmp_path: Path, recipe: str, precision: str, kill: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    runs.train(recipe, out=str(whole), precision=precision, **OPTIONS)
    # The checkpoint is of step 10; the lines of later steps were written before the kill and must not come twice.
    assert start(kill, recipe=recipe, out=str(broken), precision=precision, **OPTIONS) == -signal.SIGKILL
    assert [r["step"] for r in log(broken)] == list(range(2, kill + 1, 2))
    assert torch.load(broken / "checkpoint.pt", weights_only=True)["steps_done"] == 10
    with (broken / "log.jsonl").open("a") as file:
        file.write('{"step": 16, "sta')  # cut short, as a crash leaves it
    assert start(0, recipe=recipe, out=str(broken), resume=True) == 0
    a, b = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (whole, broken))
    assert not differing(a, b)
    assert a["steps_done"] == 20
    assert sum(isinstance(leaf, torch.Tensor) for leaf in flat(a).values()) > 50
    assert log(whole) == log(broken)
    assert [r["step"] for r in log(broken)] == list(range(2, 21, 2))


def quick(out: Path, **options: object) -> runs.Run:
    settings = {"data": "ring8", "steps": 4, "batch_size": 8, "width": 8, "log_every": 1, "out": str(out), "compile": "off"}
    return runs.open_run("gan-ns", **{**settings, **options})


@pytest.fixture(autouse=True)
def _no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "scores", SPREAD)


def test_ctrl_c_saves_and_the_run_goes_on_in_place_or_from_disk(tmp_path: Path) -> None:
    def interrupt(run: runs.Run, record: dict) -> None:
        if record["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    whole = quick(tmp_path / "whole", save_every=4).train()
    run = quick(tmp_path / "a", save_every=4)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="step 2"):
        run.train(interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    disk = runs.open_run("gan-ns", out=str(tmp_path / "a"), resume=True)
    assert disk.trainer.steps_done == 2
    for again in (run.train(), disk.train()):
        assert not differing(whole.trainer.state_dict(), again.trainer.state_dict())


def test_ctrl_c_does_not_replace_a_good_checkpoint_by_a_broken_one(tmp_path: Path) -> None:
    run = quick(tmp_path / "a", log_every=100, save_every=2)
    step = run.trainer.step

    def break_and_interrupt() -> None:
        step()
        if run.trainer.steps_done == 3:
            next(run.trainer.nets["G"].parameters()).data.fill_(float("nan"))
            os.kill(os.getpid(), signal.SIGINT)

    run.trainer.step = break_and_interrupt
    with pytest.raises((Diverged, KeyboardInterrupt)) as ended:
        run.train()
    assert "a weight of G" in str(ended.value)
    assert runs.load(tmp_path / "a").trainer.steps_done == 2


def test_how_often_a_run_is_saved_or_judged_does_not_change_it(tmp_path: Path) -> None:
    rare = quick(tmp_path / "rare", save_every=4, log_every=4).train()
    often = quick(tmp_path / "often", save_every=1, log_every=1).train()
    a, b = (run.trainer.state_dict() for run in (rare, often))
    assert not differing(a["nets"], b["nets"])
    assert torch.equal(a["rng"]["cpu"], b["rng"]["cpu"])


def test_saving_between_trainings_keeps_the_random_state_of_the_run(tmp_path: Path) -> None:
    run = quick(tmp_path / "a").train()
    torch.manual_seed(77)
    run.save()
    assert not differing(runs.load(tmp_path / "a").trainer.state_dict(), run.trainer.state_dict())
