"""`gancore.penalties.critic_step` against eager and compiled PyTorch, and against its own convolutions.

    gancore bench critic                   measure, print, and write benchmarks/results/critic-<device>.json
    gancore bench critic --quick           small critics, fewer peers; writes nothing
    gancore bench critic --row resnet      measure the rows of this name, or that begin so, and keep the file's others
    gancore bench critic --table           print from the file alone

At a point of a row all bodies take turns in one process, each a whole update: scores, penalty, all gradients. A point of which a
body disagrees with float64 is refused before it is timed. Float32 is exact float32 for every body.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gancore import environment
from gancore.benchmarks import compare, conv, critic_cases, critic_memory, files, peak, peers, timing
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.critic_cases import LABELS, Case
from gancore.benchmarks.suite import Asked, Table
from gancore.core import GancoreError, UsageError

PAIRS = (15, 60)  # the fewest and the most rounds of a point

_PEERS = ("ours", "eager", "last", "last-compiled", "bare")
_TURN = 0.01  # seconds of a turn on a GPU, where one call is shorter than the clock's and the launch's own


@dataclass(frozen=True)
class Row:
    """Points measured alike: "times", or "memory" (each body in a fresh process). seconds: what one body may spend at a point."""

    cases: tuple[Case, ...]
    bodies: tuple[str, ...] = _PEERS
    how: str = "times"
    seconds: float = 15.0


def _cases(net: str, penalty: str = "gp", dtype: str = "float32", batches: Sequence[int] = (32, 64)) -> tuple[Case, ...]:
    # ResNet critics for 32x32 images: a point of 64x64 ones would take minutes on a CPU.
    side, width = (64, 64) if net == "critic" else (32, 32)
    return tuple(Case(net, penalty, n, dtype, side, width) for n in batches)


ROWS = {
    "critic": Row(_cases("critic")),
    "critic-bfloat16": Row(_cases("critic", dtype="bfloat16")),
    "resnet": Row(_cases("resnet")),
    "resnet-norm": Row(_cases("resnet-norm")),
    "r1r2": Row(_cases("critic", "r1r2")),
    "memory": Row(
        (*_cases("critic"), *_cases("critic", "r1r2"), *_cases("resnet", batches=(64,)), *_cases("resnet-norm", batches=(64,))),
        ("ours", "eager", "last"), "memory",
    ),
}  # fmt: skip

_QUICK: dict[str, Any] = {"batch": 4, "width": 8, "side": 32}
_QUICK_SECONDS = 0.2
_QUICK_PAIRS = (3, 10)
_COMPILED_WHEN_QUICK = ("critic",)


def small(row: Row) -> Row:
    """What a quick run measures of a row."""
    return replace(row, cases=(replace(row.cases[0], **_QUICK),), seconds=_QUICK_SECONDS)


def rows_of(asked: Sequence[str]) -> list[str]:
    """The rows of these names, or whose names begin so; all without any. Raises UsageError for a name that is none."""
    for name in asked:
        if not any(row == name or row.startswith(f"{name}-") for row in ROWS):
            raise UsageError(f"critic has no row {name!r}; there are {', '.join(ROWS)}")
    return [row for row in ROWS if not asked or any(row == name or row.startswith(f"{name}-") for name in asked)]


def measure(name: str, device: str, quick: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The result of a row: its points, and of each what was measured, or why it was refused. say: takes a line of progress."""
    row = small(ROWS[name]) if quick else ROWS[name]
    points = []
    for case in row.cases:
        case = replace(case, device=device)
        left_out = absent(row, name, quick, torch.device(device))
        point = {"case": critic_cases.describe(case), "batch": case.batch, "dtype": case.dtype}
        point |= measure_point(row, case, left_out, _QUICK_PAIRS if quick else PAIRS)
        say(f"{name}: " + "  ".join(line for line in cells(row.how, point) if line))
        points.append(point)
    return {"row": name, "how": row.how, "commit": environment.commit(), "points": points}


def measure_point(row: Row, case: Case, left_out: dict[str, str], pairs: tuple[int, int] = PAIRS) -> dict[str, Any]:
    """A point's `bodies` and `left_out`, or `refused`."""
    names = [body for body in row.bodies if body not in left_out]
    if row.how == "memory":
        found = {body: critic_memory.measured(case, body) if peak.known() else None for body in names}
        reason = "its process failed" if peak.known() else "this system tells no peak"
        left_out |= {body: reason for body, sizes in found.items() if sizes is None}
        return {"bodies": {body: sizes for body, sizes in found.items() if sizes is not None}, "left_out": left_out}
    # Compiled code of one point must not count towards the limit of recompilations of the next.
    torch.compiler.reset()
    check = lambda name, found: critic_cases.check(case, name, found)
    repeats = None if case.device == "cpu" else lambda seconds: max(1, round(_TURN / seconds))
    try:
        with conv.exact():
            body = lambda name: critic_cases.body(case, name)
            bodies = timing.compare(names, body, check, row.seconds, left_out, pairs, repeats, fresh=True)
    except Refused as error:
        return {"refused": str(error), "left_out": left_out}
    return {"bodies": bodies, "left_out": left_out}


def absent(row: Row, name: str, quick: bool, device: torch.device) -> dict[str, str]:
    """Why bodies of the row cannot run here."""
    reasons = {body: peers.missing(body, device) for body in row.bodies}
    if quick and name not in _COMPILED_WHEN_QUICK:
        reasons |= {body: "left out of a quick run" for body in row.bodies if body.endswith("-compiled")}
    return {body: reason for body, reason in reasons.items() if reason}


# -- tables ------------------------------------------------------------------------------------------------------------------

HEADINGS = ("row", "gancore", "eager", "channels_last", "compiled", "bare", "best / gancore")


def cells(how: str, point: dict[str, Any]) -> tuple[str, ...]:
    """A point's line of a table."""
    if "refused" in point:
        return (point["case"], "refused: " + point["refused"], *[""] * 5)
    bodies = point["bodies"]
    if how == "memory":
        tell = lambda b: f"peak {b['peak']:.4g} MB"
        others = [b["peak"] for name, b in bodies.items() if name != "ours"]
        end = f"{min(others) / bodies['ours']['peak']:.3g}" if others and "ours" in bodies else ""
    else:
        tell = lambda b: f"{b['ms']:.4g} ms"
        ratio = conv.best(bodies)
        end = "" if ratio is None else f"{ratio:.3g}"
    return (point["case"], *(tell(bodies[name]) if name in bodies else "" for name in _PEERS), end)


def lines(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a terminal shows: a line for each point, and below those of a row why bodies are absent."""
    found: list[tuple[str, ...]] = []
    for row in result["rows"]:
        found += [(f"{row['row']}: {first}", *rest) for first, *rest in (cells(row["how"], p) for p in row["points"])]
        reasons = dict.fromkeys((LABELS[b], reason) for p in row["points"] for b, reason in p.get("left_out", {}).items())
        found += [(f"{row['row']}: without {label}", reason, *[""] * 5) for label, reason in reasons]
    return found


def path_of(device: str) -> Path:
    """The result file of this kind of device."""
    return files.path_of("critic", device)


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, write the result, and return the table. Raises GancoreError in the end if a point was refused."""
    chosen = rows_of(asked.rows)
    device = environment.pick_device(asked.device)
    path = asked.out or (None if asked.quick else path_of(device.type))
    if asked.table:
        result = files.load("critic", asked.out or path_of(device.type))
        compare.tell(asked.old, result, say)
        return HEADINGS, lines(result)
    head = lambda: {**files.about(device), "quick": asked.quick}
    result = files.measured("critic", path, list(ROWS), chosen, lambda name: measure(name, device.type, asked.quick, say), head)
    compare.tell(asked.old, result, say)
    if any("ours" in p.get("left_out", {}) for row in result["rows"] for p in row["points"]):
        raise GancoreError("gancore did not complete a point: see left_out in the result")
    files.refuse([p["refused"] for row in result["rows"] for p in row["points"] if "refused" in p])
    return HEADINGS, lines(result)
