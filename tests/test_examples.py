"""The examples run, and say what is true."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *words: str) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py", *words], capture_output=True, text=True, cwd=EXAMPLES.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"accelerate_dcgan", "mmd_drop_in"}


def test_both_losses_agree_and_train_alike():
    example = load("mmd_drop_in")
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
    lines = (EXAMPLES / "mmd_drop_in.py").read_text().splitlines()
    changed = [line for line in lines if re.match(r"from gancore|KERNEL =|gancore_loss =", line)]
    assert len(changed) == 3


@pytest.mark.parametrize("words", [(), ("--by-hand",)])
def test_the_generator_learns_the_ring(words):
    first, last = map(float, re.search(r"from ([\d.]+) to ([\d.]+)", run("mmd_drop_in", *words)).groups())
    assert last < 0.1 * first


def test_an_accelerated_dcgan_learns_the_same():
    example = load("accelerate_dcgan")
    wanted = example.train(False, steps=10, batch=8)
    assert example.train(True, steps=10, batch=8) == pytest.approx(wanted, rel=1e-3)
    said = run("accelerate_dcgan")
    assert "conv_transpose_chain of 4" in said
    assert "in 40 steps" in said


def test_accelerate_as_its_guide_says():
    guide = (EXAMPLES.parent / "docs/accelerate.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", guide, re.S):
        names: dict[str, object] = {}
        exec(code, names)
        if "generator" in names:
            assert str(names["generator"].acceleration_report) in guide
            assert names["images"].shape == (8, 3, 16, 16)
