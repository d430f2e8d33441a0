"""Where the time and the memory of a training step go: `profile` measures a warm run, `write` makes the files and the page.

Reading order: `profile`, `gancore.profiling.clock`, `gancore.profiling.trace`, `gancore.profiling.losses`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gancore import data, environment, machine
from gancore.arguments import split
from gancore.kernels import profile_ranges
from gancore.profiling import losses, trace
from gancore.profiling.clock import Watched
from gancore.profiling.counts import Counts, Layers
from gancore.recipes import get
from gancore.runs import specify
from gancore.trainer import Trainer

TRACED = 3
FEWEST, SECONDS = 4, 12.0  # slow steps: no more than so many once so much time has passed


@dataclass(frozen=True)
class Profile:
    """What was measured: `facts` as profile.json holds them, the ranked losses, and the Chrome trace as text."""

    facts: dict[str, Any]
    losses: list[losses.Loss]
    chrome: str


def profile(name: str, steps: int = 20, warm: int = 3, **arguments: Any) -> Profile:
    """Profile at most `steps` training steps of a recipe after `warm` ones, with the options and parameters of `gancore.train`.

    Plain and watched steps alternate, so that the cost of watching is known; the trace is of three more steps. Raises what
    `gancore.train` raises.
    """
    plain, watched, about = _trainers(name, arguments)
    bounds = machine.measure(watched.device)
    profile_ranges(True, watched.penalties)
    try:
        with watched.random():
            for _ in range(warm):
                plain.step()
                watched.step()
        watched.clock.read()
        times, phases = _alternate(plain, watched, steps)
        counts = Counts()
        with watched.random():
            with counts:
                watched.step()
            watched.clock.read()
            traced, chrome, wall = _traced(watched, counts)
    finally:
        profile_ranges(False)
    step = statistics.median(times["plain"])
    # A trace taken while the machine was busier than before may hold more than a step has.
    inside = sum(call.seconds for call in traced.calls)
    scale = min(1.0, step * TRACED / max(inside, 1e-12))
    compiled = any(loss is not None and hasattr(loss, "_torchdynamo_orig_callable") for loss in watched._losses.values())
    found = losses.ranked(traced.calls, TRACED, scale, step, bounds, dict(watched.nets.items()), compiled)
    total = sum(times["watched"])
    facts = {
        **about,
        "machine": bounds,
        "steps": len(times["plain"]),
        "step_seconds": {key: statistics.median(values) for key, values in times.items()},
        "overhead": {
            "off": 0.0,
            "phases": statistics.median(b / a for a, b in zip(times["plain"], times["watched"], strict=True)) - 1,
            "trace": wall / TRACED / step - 1,
        },
        "wall_seconds": total,
        "phases": [{"phase": key, "seconds": s, "share": s / total} for key, s in sorted(phases.items(), key=lambda p: -p[1])],
        "operators": _operators(traced, scale, step, bounds),
        "losses": [{**asdict(loss), "lost": loss.lost} for loss in found],
        "memory": trace.thinned(traced.memory),
        "samples_per_second": watched.options.batch_size * _draws(watched) / step,
    }
    return Profile(facts, found, chrome)


def _trainers(name: str, arguments: Mapping[str, Any]) -> tuple[Trainer, Watched, dict[str, Any]]:
    entry = get(name, "recipe")
    options, parameters = split(entry, {"log_every": 10, **arguments})
    device = environment.pick_device(options.device)
    dataset = data.load(options.data, size=options.size or None)
    needed = (entry.function(**parameters), dataset.to(device), options, specify(dataset, options), device)
    about = {
        "recipe": entry.id, "title": entry.title, "options": asdict(options), "parameters": parameters,
        "data": {"name": dataset.name, "shape": list(dataset.shape)}, "device": environment.describe(device),
        "versions": environment.versions(), "commit": environment.commit(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip
    return Trainer(*needed), Watched(*needed), about


def _alternate(plain: Trainer, watched: Watched, steps: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each step of both, and the watched one's by phase."""
    wait = torch.cuda.synchronize if watched.device.type == "cuda" else lambda: None
    times: dict[str, list[float]] = {"plain": [], "watched": []}
    phases: dict[str, float] = {}
    for i in range(steps):
        if i >= FEWEST and sum(map(sum, times.values())) > SECONDS:
            break
        pair = (("plain", plain), ("watched", watched))
        for key, trainer in pair if i % 2 else pair[::-1]:
            profile_ranges(key == "watched", watched.penalties)
            with trainer.random():
                wait()
                start = time.perf_counter()
                trainer.step()
                if key == "plain" and trainer.steps_done % trainer.options.log_every == 0:
                    trainer.tick()
                wait()
                times[key].append(time.perf_counter() - start)
        for phase, seconds in watched.clock.read().items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    profile_ranges(True, watched.penalties)
    return times, phases


def _traced(watched: Watched, counts: Counts) -> tuple[trace.Trace, str, float]:
    """The trace of TRACED steps, as it was read and as text, and their seconds."""
    cuda = watched.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    compiled = any(loss is not None and hasattr(loss, "_torchdynamo_orig_callable") for loss in watched._losses.values())
    with torch.profiler.profile(activities=kinds, record_shapes=True, profile_memory=True) as profiler:
        start = time.perf_counter()
        # A compiled function is not to see the mode: it would break its graph.
        with nullcontext() if compiled else Layers(dict(watched.nets.items())):
            for _ in range(TRACED):
                watched.step()
        if cuda:
            torch.cuda.synchronize()
        wall = time.perf_counter() - start
    watched.clock.read()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return trace.read(path, counts), path.read_text(), wall


def _operators(traced: trace.Trace, scale: float, step: float, bounds: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each operator: calls, seconds and share of a step, bytes and operations a second, share of what is possible."""
    groups: dict[str, list[trace.Call]] = {}
    for call in traced.calls:
        groups.setdefault(call.name, []).append(call)
    rows = []
    for name, members in groups.items():
        seconds = scale * sum(c.seconds for c in members) / TRACED
        moved, operations = (sum(getattr(c, key) for c in members) / TRACED for key in ("moved", "operations"))
        least = machine.least_seconds(moved, operations, dict(bounds))
        rows.append(
            {
                "operator": name, "calls": len(members) / TRACED, "seconds": seconds, "share": seconds / step,
                "bandwidth": moved / seconds if seconds else 0.0, "rate": operations / seconds if seconds else 0.0,
                "of_possible": least / seconds if seconds else 0.0,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: -float(row["seconds"]))


def _draws(trainer: Trainer) -> float:
    """Batches drawn in a step."""
    phases = trainer._stage.phases if trainer._stage else ()
    return sum(p.repeats / p.every for p in phases if p.draw) or 1.0


def write(found: Profile, folder: Path) -> dict[str, Path]:
    """trace.json (for chrome://tracing or Perfetto), profile.json, phases.csv, operators.csv and profile.html in a folder."""
    from gancore.checkpoint import write_atomic
    from gancore.profiling.page import render

    texts = {
        "trace.json": found.chrome,
        "profile.json": json.dumps(found.facts, indent=1) + "\n",
        "phases.csv": _csv(found.facts["phases"]),
        "operators.csv": _csv(found.facts["operators"]),
        "profile.html": render(found.facts),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in texts}
    for name, text in texts.items():
        encoded = text.encode()
        write_atomic(paths[name], lambda file, encoded=encoded: file.write(encoded))  # type: ignore[misc]
    return paths


def _csv(rows: list[dict[str, Any]]) -> str:
    tell = lambda value: f"{value:.6g}" if isinstance(value, float) else str(value)
    lines = [list(rows[0])] if rows else []
    return "\n".join(",".join(map(tell, line)) for line in (*lines, *(row.values() for row in rows))) + "\n"
