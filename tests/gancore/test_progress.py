"""What is shown of a run while it trains."""

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gancore
from gancore import progress
from gancore.core import Options

RECORD = {
    "step": 50, "stage": "all", "critic/real": 1.23456, "critic/energy": 2.0, "generator/energy": 3.0, "state/k": 0.5,
    "speed": 12345.6, "seconds": 2.0, "metric/fid": 9.87654,
}  # fmt: skip


def test_a_line_tells_step_losses_metrics_speed_and_time_left():
    line = progress.line(RECORD, steps=2000, pace=2.0)
    wanted = "step   50/2000  real 1.235  critic/energy 2  generator/energy 3  fid 9.877  12,346 samples/s  1:05:00 left"
    assert line == wanted


def test_only_the_first_terms_are_shown_and_names_stay_apart():
    many: dict[str, Any] = {f"phase/term{i}": float(i) for i in range(9)}
    assert progress.losses(many) == "term0 0  term1 1  term2 2  term3 3"
    assert progress.losses({"step": 1, "state/k": 1.0, "metric/fid": 1.0}) == ""


def test_without_a_terminal_each_record_is_one_line():
    stream, run = io.StringIO(), SimpleNamespace(options=Options(steps=100), trainer=SimpleNamespace(steps_done=0))
    with progress.progress(run, stream) as listen:  # type: ignore[arg-type]
        listen(run, RECORD)  # type: ignore[arg-type]
        listen(run, {**RECORD, "step": 100})  # type: ignore[arg-type]
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("step 100/100")
    assert lines[1].endswith("0:00:00 left")
    assert "\x1b" not in stream.getvalue()


def test_pictures_come_after_the_checkpoint_and_cost_no_speed(tmp_path: Path):
    seen = []

    def slow(run: gancore.Run, record: dict[str, Any]) -> None:
        assert run.out is not None
        seen.append((record["step"], (run.out / "checkpoint.pt").is_file()))
        time.sleep(0.3)

    words = {"data": "ring8", "steps": 6, "batch_size": 8, "save_every": 2, "log_every": 1}
    run = gancore.train("gan-ns", slow, out=str(tmp_path / "x"), **words)
    assert seen == [(1, False), *((step, True) for step in range(2, 7))]
    assert all(record["speed"] > 8 / 0.3 for record in run.metrics[1:])
