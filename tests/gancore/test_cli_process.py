"""The command line as a process: start-up, signals, kills, terminals."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gancore

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(*words: str, **extra: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, env={**ENVIRONMENT, **extra}, check=False
    )


def test_help_loads_neither_torch_nor_rich():
    code = "import sys; from gancore.cli.app import app; print([m for m in ('torch', 'rich', 'numpy') if m in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


def test_without_click_one_line_says_how_to_get_it():
    result = python("-c", "import sys; sys.modules['click'] = None; from gancore.cli import main; main()")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert 'click is not installed, and the command line needs it: pip install "gancore[train]"' in result.stderr


def test_usage_errors_reach_the_shell():
    result = python("-m", "gancore", "trian")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "gancore: unknown command 'trian'; did you mean train?\n"


def test_ctrl_c_saves_a_checkpoint(tmp_path: Path):
    words = ("train", "gan-ns", "--data=ring8", "--steps=1000000", "--log-every=20", "--save-every=1000000", "--out=x")
    with subprocess.Popen(
        [sys.executable, "-m", "gancore", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith("step"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 130
    stopped = re.fullmatch(r"gancore: interrupted at step (\d+); .*--out=x --resume\n", told)
    assert stopped is not None, told
    assert gancore.load(tmp_path / "x").trainer.steps_done == int(stopped[1]) >= 20


KILLED_WHILE_SAVING = """
import os, signal, sys, torch
from gancore.cli import main
save, calls = torch.save, []

def half(state, file):
    calls.append(state)
    if len(calls) < 2:
        return save(state, file)
    file.write(b"PK" + bytes(5000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = half
words = "train gan-ns --data=ring8 --steps=20 --batch-size=32 --save-every=10".split()
sys.argv = ["gancore", *words, "--out=" + sys.argv[1]]
main()
"""


def test_kill_9_during_a_save_leaves_the_previous_checkpoint(tmp_path: Path):
    result = python("-c", KILLED_WHILE_SAVING, str(tmp_path / "x"))
    assert result.returncode == -signal.SIGKILL
    assert gancore.load(tmp_path / "x").trainer.steps_done == 10
    finished = gancore.train("gan-ns", out=str(tmp_path / "x"), resume=True)
    through = gancore.train("gan-ns", data="ring8", steps=20, batch_size=32, save_every=10)
    assert finished.sample(5).equal(through.sample(5))
    assert [record["step"] for record in finished.metrics] == [10, 20]


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_only_where_they_are_wanted(no_color: bool):
    environment = {key: value for key, value in ENVIRONMENT.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", **({"NO_COLOR": "1"} if no_color else {})}
    master, slave = pty.openpty()
    code = """
from types import SimpleNamespace as N
from gancore.progress import progress
run = N(options=N(steps=10), trainer=N(steps_done=0))
with progress(run) as listen:
    run.trainer.steps_done = 10
    listen(run, {"step": 10, "speed": 5.0, "critic/critic": 0.25, "metric/fid": 3.0})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(60) == 0
    os.close(master)
    text = shown.decode()
    assert "10/10" in text
    assert "critic 0.25" in text
    assert "step 10: fid 3" in text
    assert bool(re.search(r"\x1b\[(3[0-7]|9[0-7]|38;)", text)) is not no_color


def test_list_as_json_from_a_shell():
    result = python("-m", "gancore", "list", "--json")
    assert {"wgan-gp", "began"} <= {entry["id"] for entry in json.loads(result.stdout)}
    assert result.stderr == ""
