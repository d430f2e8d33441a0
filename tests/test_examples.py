"""The examples run, and say what is true."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "examples/mmd_drop_in.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mmd_drop_in", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_losses_agree_and_train_alike(example):
    fake, real = torch.randn(60, 2, requires_grad=True), example.ring(50)
    values = [loss(fake, real) for loss in (example.gancore_loss, example.by_hand)]
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-6)
    slopes = [torch.autograd.grad(value, fake)[0] for value in values]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)
    ours, theirs = (example.train(loss, steps=25, batch=64) for loss in (example.gancore_loss, example.by_hand))
    assert ours[:5] == pytest.approx(theirs[:5], rel=1e-3)
    assert ours[-1] < 0.5 * ours[0]
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.1)


def test_three_lines_are_what_it_takes():
    changed = [line for line in PATH.read_text().splitlines() if re.match(r"from gancore|KERNEL =|gancore_loss =", line)]
    assert len(changed) == 3


@pytest.mark.parametrize("words", [(), ("--by-hand",)])
def test_it_runs(words):
    done = subprocess.run([sys.executable, PATH, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, last = map(float, re.search(r"from ([\d.]+) to ([\d.]+)", done.stdout).groups())
    assert last < 0.1 * first
