"""How a run is going: a bar with speed, time left and losses on a terminal, one plain line a log record elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gancore.runs import Listener, Run

_LOSSES = 4


@contextlib.contextmanager
def progress(run: "Run", stream: TextIO | None = None) -> "Iterator[Listener]":
    """A listener for `Run.train` that shows the run's progress on `stream` (standard output) until the context ends."""
    stream = stream or sys.stdout
    if stream.isatty():
        with _bar(run, stream) as listener:
            yield listener
        return
    began, first = time.monotonic(), run.trainer.steps_done

    def listen(run: "Run", record: dict[str, Any]) -> None:
        pace = (time.monotonic() - began) / max(1, record["step"] - first)
        print(line(record, run.options.steps, pace), file=stream, flush=True)

    yield listen


def line(record: dict[str, Any], steps: int, pace: float) -> str:
    """A log record in one line; `pace` is seconds a step, for the time left."""
    left = round((steps - record["step"]) * pace)
    parts = [
        f"step {record['step']:>{len(str(steps))}}/{steps}",
        losses(record),
        metrics(record),
        f"{record['speed']:,.0f} samples/s",
        f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
    ]
    return "  ".join(part for part in parts if part)


def losses(record: dict[str, Any]) -> str:
    """The first few terms of a record, without the phase's name where the term's says enough."""
    keys = [key for key in record if "/" in key and key.partition("/")[0] not in ("metric", "state")]
    terms = [key.partition("/")[2] for key in keys]
    named = [term if terms.count(term) == 1 else key for key, term in zip(keys, terms, strict=True)]
    return "  ".join(f"{name} {record[key]:.4g}" for name, key in list(zip(named, keys, strict=True))[:_LOSSES])


def metrics(record: dict[str, Any]) -> str:
    """The metrics of a record, where it has any."""
    found = {k.removeprefix("metric/"): v for k, v in record.items() if k.startswith("metric/")}
    return "  ".join(f"{name} {value:.4g}" for name, value in found.items())


@contextlib.contextmanager
def _bar(run: "Run", stream: TextIO) -> "Iterator[Listener]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Bar(Progress):
        """Follows the run's step counter between log records, which costs the device nothing."""

        def get_renderables(self) -> Any:
            for task in self.task_ids:
                self.update(task, completed=run.trainer.steps_done)
            return super().get_renderables()

    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.fields[losses]}"), console=Console(file=stream), refresh_per_second=2) as bar:
        task = bar.add_task("", total=run.options.steps, completed=run.trainer.steps_done, speed="", losses="")

        def listen(run: "Run", record: dict[str, Any]) -> None:
            bar.update(task, speed=f"{record['speed']:,.0f}/s", losses=losses(record))
            if figures := metrics(record):
                bar.console.print(f"step {record['step']}: {figures}", highlight=False)

        yield listen
