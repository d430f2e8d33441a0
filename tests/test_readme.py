"""The README is true: its Python runs, its commands run, its tables are what the committed results say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tables import filled

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tmp_path):
    # In a process of its own: a block may register a recipe.
    (tmp_path / "block.py").write_text(code)
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(Path.home())}
    done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_run(tmp_path, monkeypatch):
    """Every `gancore` command, in order, in one folder."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "gancore"]
    assert len(commands) >= 8
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for words in commands:
        done = subprocess.run([sys.executable, "-m", "gancore", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"gancore {shlex.join(words)}\n{done.stderr}"


def test_make_targets_exist():
    named = set(re.findall(r"`?make (\w+)", README))
    assert {"train", "test", "bench", "lint", "accept"} <= named
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert named <= targets


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_tables_are_what_was_measured():
    assert filled(README) == README, "run python -m benchmarks.tables"


def test_exit_codes_are_those_of_the_command_line():
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", README, re.M))
    shown = subprocess.run([sys.executable, "-m", "gancore", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    for code, meaning in rows.items():
        assert re.search(rf"^\s*{code}\s+{re.escape(meaning)}$", shown, re.M), (code, meaning)


def test_add_a_gan_is_true(tmp_path):
    """The guide's two files, as printed there: the recipe passes the test."""
    recipe, test = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-gan.md").read_text(), re.S)
    (tmp_path / "code_gan.py").write_text(recipe)
    (tmp_path / "test_code_gan.py").write_text(test)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
