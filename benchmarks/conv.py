"""Transposed convolutions with what follows them, and the critic's convolutions, against eager and compiled PyTorch.

    gancore bench conv                   measure, print, and write benchmarks/results/conv-<device>.json
    gancore bench conv --quick           small shapes, few layers, fewer peers; writes nothing
    gancore bench conv --row layers      measure the rows of this name, or that begin so, and keep the file's others
    gancore bench conv --table           print from the file alone

At a point of a row all bodies take turns in one process, forward and backward. A point of which a body disagrees with float64 is
refused before it is timed. Float32 is exact float32 for every body, and cuDNN chooses its algorithms by trying them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gancore import environment
from gancore.benchmarks import compare, conv_cases, conv_memory, files, peak, peers, timing
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.conv_cases import LABELS, Case
from gancore.benchmarks.suite import Asked, Table
from gancore.core import GancoreError, UsageError

PAIRS = (15, 60)  # the fewest and the most rounds of a point

_PEERS = ("ours", "eager", "last", "last-compiled")
_TYPES = ("float32", "bfloat16")
_TURN = 0.01  # seconds of a turn on a GPU, where one call is shorter than the clock's and the launch's own


@dataclass(frozen=True)
class Row:
    """Points measured alike: "times", "memory" (each body in a fresh process) or "traffic" (computed). seconds: what one body may
    spend at a point."""

    cases: tuple[Case, ...]
    bodies: tuple[str, ...] = _PEERS
    how: str = "times"
    seconds: float = 3.0


def _layers(
    image: int, dtype: str, work: str = "layer", batches: Sequence[int] = (16, 64), orders: Sequence[int] = (1,)
) -> tuple[Case, ...]:
    layers = range(len(conv_cases.sizes(Case(work, image))))
    return tuple(Case(work, image, i, n, dtype, order) for order in orders for n in batches for i in layers)


ROWS = {
    **{f"layers-{image}-{dtype}": Row(_layers(image, dtype)) for image in (64, 128) for dtype in _TYPES},
    "generator": Row(tuple(Case("generator", dtype=dtype) for dtype in _TYPES), (*_PEERS, "eager-compiled", "bare"), seconds=10.0),
    "memory": Row(tuple(Case("generator", dtype=dtype) for dtype in _TYPES), how="memory"),
    **{f"critic-{dtype}": Row(_layers(64, dtype, "critic", (64,), (1, 2))) for dtype in _TYPES},
    "traffic": Row(tuple(c for image in (64, 128) for c in _layers(image, "bfloat16", batches=(128,))), ("ours",), "traffic"),
}  # fmt: skip

_QUICK: dict[str, Any] = {"batch": 4, "width": 8}
_QUICK_SECONDS = 0.2
_QUICK_PAIRS = (3, 10)
_COMPILED_WHEN_QUICK = ("generator",)


def small(row: Row) -> Row:
    """What a quick run measures of a row."""
    chosen = [c for c in row.cases if c.index in (0, 2) and c.batch == row.cases[0].batch]
    return replace(row, cases=tuple(replace(c, **_QUICK) for c in chosen), seconds=_QUICK_SECONDS)


def rows_of(asked: Sequence[str]) -> list[str]:
    """The rows of these names, or whose names begin so; all without any. Raises UsageError for a name that is none."""
    found = []
    for name in asked:
        of_name = [row for row in ROWS if row == name or row.startswith(f"{name}-")]
        if not of_name:
            raise UsageError(f"conv has no row {name!r}; there are {', '.join(ROWS)}")
        found += of_name
    return [row for row in ROWS if row in found] if asked else list(ROWS)


def measure(name: str, device: str, quick: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The result of a row: its points, and of each what was measured, or why it was refused. say: takes a line of progress."""
    row = small(ROWS[name]) if quick else ROWS[name]
    points = []
    gone: dict[tuple[str, int], str] = {}
    for case in row.cases:
        case = replace(case, device=device)
        left_out = {} if row.how == "traffic" else absent(row, name, quick, torch.device(device))
        left_out |= {body: reason for (body, order), reason in gone.items() if order == case.order}
        point = {"case": conv_cases.describe(case), "title": conv_cases.title(case), "batch": case.batch, "dtype": case.dtype}
        point |= measure_point(row, case, left_out, _QUICK_PAIRS if quick else PAIRS)
        gone |= {(body, case.order): reason for body, reason in left_out.items()}
        say(f"{name}: " + "  ".join(line for line in cells(row.how, point) if line))
        points.append(point)
    return {"row": name, "how": row.how, "commit": environment.commit(), "points": points}


def measure_point(row: Row, case: Case, left_out: dict[str, str], pairs: tuple[int, int] = PAIRS) -> dict[str, Any]:
    """A point's `bodies` and `left_out`, or `refused`."""
    if row.how == "traffic":
        return traffic(case)
    names = [body for body in row.bodies if body not in left_out]
    if row.how == "memory":
        found = {body: conv_memory.measured(case, body) if peak.known() else None for body in names}
        reason = "its process failed" if peak.known() else "this system tells no peak"
        left_out |= {body: reason for body, sizes in found.items() if sizes is None}
        return {"bodies": {body: sizes for body, sizes in found.items() if sizes is not None}, "left_out": left_out}
    # Compiled code of one point must not count towards the limit of recompilations of the next.
    torch.compiler.reset()
    check = lambda name, found: conv_cases.check(case, name, found)
    repeats = None if case.device == "cpu" else lambda seconds: max(1, round(_TURN / seconds))
    try:
        with exact():
            body = lambda name: conv_cases.body(case, name)
            bodies = timing.compare(names, body, check, row.seconds, left_out, pairs, repeats, fresh=True)
    except Refused as error:
        return {"refused": str(error), "left_out": left_out}
    return {"bodies": bodies, "left_out": left_out}


@contextmanager
def exact() -> Iterator[None]:
    """Float32 that is float32 on GPUs too, and cuDNN's best algorithm, for every body."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = False, False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


def absent(row: Row, name: str, quick: bool, device: torch.device) -> dict[str, str]:
    """Why bodies of the row cannot run here."""
    reasons = {body: peers.missing(body, device) for body in row.bodies}
    if quick and name not in _COMPILED_WHEN_QUICK:
        reasons |= {body: "left out of a quick run" for body in row.bodies if body.endswith("-compiled")}
    return {body: reason for body, reason in reasons.items() if reason}


def traffic(case: Case) -> dict[str, Any]:
    """Bytes of the phase kernel's forward pass with its statistics, over the least: computed from the tiles that it takes here."""
    from gancore.kernels._conv import Geometry, device, sizes

    size = conv_cases.sizes(case)[case.index]
    stride, padding = (1, 0) if size.side == 1 else (2, 1)
    one = torch.empty(1, device=case.device, dtype=case.type)
    x = one.expand(case.batch, size.inputs, size.side, size.side)
    w = one.expand(size.inputs, size.outputs, 4, 4)
    last = case.index == len(conv_cases.sizes(case)) - 1
    moved = device.bytes_moved(x, w, Geometry((stride,) * 2, (padding,) * 2, (0, 0), (1, 1)), not last)
    return {"programs": sizes.programs(x), **moved._asdict()}


# -- tables ------------------------------------------------------------------------------------------------------------------

HEADINGS = ("row", "gancore", "eager", "channels_last", "compiled", "bare", "best / gancore")
_COLUMNS = ("ours", "eager", "last", "last-compiled", "bare")


def best(bodies: dict[str, Any]) -> float | None:
    """How many times gancore's time the fastest peer takes; None without peers."""
    return min((b["ratio"] for name, b in bodies.items() if name not in ("ours", "bare")), default=None)


def cells(how: str, point: dict[str, Any]) -> tuple[str, ...]:
    """A point's line of a table."""
    if "refused" in point:
        return (point["case"], "refused: " + point["refused"], *[""] * 5)
    if how == "traffic":
        least, cached, uncached, cache = (point[key] for key in ("least", "cached", "uncached", "cache"))
        told = f"{cached / least:.3g} of the least {least / 1e6:.3g} MB with {cache / 1e6:.3g} MB of cache"
        return (point["case"], told, f"{uncached / least:.3g} without", *[""] * 4)
    bodies = point["bodies"]
    if how == "memory":
        tell = lambda b: f"holds {b['held']:.4g} MB, level {b['level']:.4g}, peak {b['peak']:.4g}"
        ratio = bodies["ours"]["held"] / bodies["last"]["held"] if {"ours", "last"} <= set(bodies) else None
        end = "" if ratio is None else f"holds {ratio:.3g} of eager"
    else:
        tell = lambda b: f"{b['ms']:.4g} ms"
        ratio = best(bodies)
        end = "" if ratio is None else f"{ratio:.3g}"
    return (point["case"], *(tell(bodies[name]) if name in bodies else "" for name in _COLUMNS), end)


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
    return files.path_of("conv", device)


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, write the result, and return the table. Raises GancoreError in the end if a point was refused."""
    chosen = rows_of(asked.rows)
    device = environment.pick_device(asked.device)
    path = asked.out or (None if asked.quick else path_of(device.type))
    if asked.table:
        result = files.load("conv", asked.out or path_of(device.type))
        compare.tell(asked.old, result, say)
        return HEADINGS, lines(result)
    head = lambda: {**files.about(device), "quick": asked.quick}
    result = files.measured("conv", path, list(ROWS), chosen, lambda name: measure(name, device.type, asked.quick, say), head)
    compare.tell(asked.old, result, say)
    if any("ours" in p.get("left_out", {}) for row in result["rows"] for p in row["points"]):
        raise GancoreError("gancore did not complete a point: see left_out in the result")
    files.refuse([p["refused"] for row in result["rows"] for p in row["points"] if "refused" in p])
    return HEADINGS, lines(result)
