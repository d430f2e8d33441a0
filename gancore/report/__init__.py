"""The report of a run: one HTML page that holds everything it shows and asks the network for nothing."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancore.checkpoint import write_atomic
from gancore.core import DataError
from gancore.figures import Record, panels_of
from gancore.report.charts import HEIGHT, WIDTH, Chart, chart, number
from gancore.report.page import fill

# A page of more pictures gets slow on a phone; those shown are spread over the run, the last always among them.
PICTURES = 40


@dataclass(frozen=True)
class Sample:
    """A picture of samples, as a data URI, and the step it was drawn at."""

    step: int
    uri: str


def write_report(run_dir: str | Path) -> Path:
    """Write report.html into a run's folder and return its path.

    Reads run.json, and as far as they are there log.jsonl, samples/step-*.png and metrics.json; the page says what is missing.
    Raises DataError where run.json is missing or damaged, UsageError without jinja2, OutputError where the page cannot be written.
    """
    folder = Path(run_dir)
    page = render(folder).encode()
    target = folder / "report.html"
    write_atomic(target, lambda file: file.write(page))
    return target


def render(folder: Path) -> str:
    """The page of the run in a folder."""
    return fill("gancore.report", "report.html.j2", {"number": _shown, "exact": lambda value: _shown(value, str)}, **gather(folder))


def gather(folder: Path) -> dict[str, Any]:
    """All that the template shows, and in "missing" what the folder lacks."""
    run = _read_object(folder / "run.json", required=True)
    records, notes = _read_log(folder / "log.jsonl")
    samples, total = _read_samples(folder / "samples")
    if not samples:
        notes.append("no pictures of samples in samples/")
    elif total > len(samples):
        notes.append(f"{len(samples)} of {total} pictures of samples are shown, spread over the run")
    final = _read_object(folder / "metrics.json", required=False)
    metrics = final or _last_metrics(records)
    if not metrics:
        notes.append("no metrics, neither in metrics.json nor in the log")
    charts = _charts(records)
    if records and not charts:
        notes.append("log.jsonl holds no terms")
    return {
        "run": _described(run), "missing": notes, "samples": samples, "metrics": metrics, "metrics_at": _metrics_at(final, records),
        "metric_charts": [c for c in charts if c.title.startswith("metric/")],
        "term_charts": [c for c in charts if not c.title.startswith("metric/")],
        "facts": _facts(run, records, metrics), "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip


def _read_object(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise DataError(f"{path}: there is no such file, so {path.parent} holds no run")
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: it holds {type(found).__name__}, not an object")
    return found


def _read_log(path: Path) -> tuple[list[Record], list[str]]:
    if not path.is_file():
        return [], ["no log.jsonl, so no curves"]
    records, broken = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and isinstance(record.get("step"), int | float):
            records.append(record)
        else:
            broken += 1
    notes = [f"{broken} {'line' if broken == 1 else 'lines'} of log.jsonl could not be read"] if broken else []
    return records, notes if records or broken else ["log.jsonl is empty, so no curves"]


def _read_samples(folder: Path) -> tuple[list[Sample], int]:
    found = {int(m[1]): p for p in folder.glob("*.png") if (m := re.fullmatch(r"step-(\d+)", p.stem))}
    steps = sorted(found)
    if len(steps) > PICTURES:
        chosen = [steps[round(i * (len(steps) - 1) / (PICTURES - 1))] for i in range(PICTURES)]
    else:
        chosen = steps
    uri = "data:image/png;base64,"
    return [Sample(s, uri + base64.b64encode(found[s].read_bytes()).decode()) for s in chosen], len(steps)


def _last_metrics(records: list[Record]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for record in records:
        last |= {key.removeprefix("metric/"): value for key, value in record.items() if key.startswith("metric/")}
    return last


def _metrics_at(final: Mapping[str, Any], records: list[Record]) -> str:
    steps = [r["step"] for r in records if any(key.startswith("metric/") for key in r)]
    return "metrics.json" if final or not steps else f"step {number(steps[-1])}"


def _charts(records: list[Record]) -> list[Chart]:
    if not records:
        return []
    steps = [float(r["step"]) for r in records]
    return [chart(title, curves, (min(0.0, *steps), max(steps))) for title, curves in panels_of(records).items()]


def _facts(run: Mapping[str, Any], records: list[Record], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    options = run.get("options") or {}
    last = records[-1] if records else {}
    facts = []
    if "step" in last:
        planned = f" of {number(options['steps'])}" if "steps" in options else ""
        facts.append(("steps", number(last["step"]) + planned))
    if "seconds" in last:
        facts.append(("time", duration(last["seconds"])))
    speeds = sorted(r["speed"] for r in records if isinstance(r.get("speed"), int | float))
    if speeds:
        facts.append(("samples/s, median", f"{speeds[len(speeds) // 2]:,.0f}"))
    if run.get("players"):
        facts.append(("parameters", number(sum(run["players"].values()))))
    return facts + [(name, _shown(value)) for name, value in list(metrics.items())[:4]]


def duration(seconds: float) -> str:
    """Seconds as "12.3 s", "4 min 05 s" or "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _described(run: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "recipe": "a run", "title": "", "options": {}, "parameters": {}, "seed": None, "versions": {}, "commit": "", "data": {},
        "device": "", "command": "", "started": "", "players": {}, "phases": [],
    }  # fmt: skip
    return {key: run[key] if run.get(key) is not None else value for key, value in empty.items()}


def _shown(value: Any, figure: Callable[[float], str] = number) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return figure(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(v, figure)}" for key, v in value.items())
    if isinstance(value, list | tuple):
        return (" × " if all(isinstance(v, int) for v in value) else ", ").join(_shown(v, figure) for v in value)
    return str(value)
