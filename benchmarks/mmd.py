"""MMD losses, KID and minibatch discrimination: gancore against what people use or write instead.

    gancore bench mmd                    measure, print, write benchmarks/results/mmd-<device>.json and docs/mmd-<device>.png
    gancore bench mmd --quick            small shapes, fewer peers; writes nothing
    gancore bench mmd --row d16          measure this row, keep the file's others
    gancore bench mmd --table            print, and draw the plot, from the file alone

In a row all bodies take turns in one process. A row whose bodies disagree with float64 is refused before it is timed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gancore import environment
from gancore.benchmarks import cases, files, peak, peers, timing
from gancore.benchmarks import compare as comparison
from gancore.benchmarks.cases import Case, Refused
from gancore.benchmarks.suite import Asked, Table
from gancore.core import GancoreError, UsageError

PLOT = "docs/mmd-{device}.png"

# A peer that would need more at a size is left out there.
MOST_SECONDS = 60.0
MOST_BYTES = 16e9

_ALL = ("ours", "closed-compiled", "single-compiled", "blocks-compiled", "blocks-eager", "cdist-compiled", "cdist-eager", "keops")
_ARBITRARY = ("ours", "closed-compiled", "blocks-compiled", "blocks-eager", "cdist-compiled", "cdist-eager")
_FORMULA = ("ours", "blocks-compiled", "blocks-eager")
_SCALING = ("ours", "closed-compiled", "single-compiled", "blocks-eager", "cdist-eager", "keops")
_SIZES = tuple(2**p for p in range(9, 16))
_ONCE = 4000  # samples from which bodies that need seconds are timed once


@dataclass(frozen=True)
class Row:
    """One comparison, and how it is measured: "times", "memory" (one call in a fresh process), or "scaling" over n.

    seconds: what one body may spend. peaks: whether memory is measured beside the times. small: what a quick run changes.
    """

    case: Case
    bodies: tuple[str, ...]
    how: str = "times"
    seconds: float = 4.0
    peaks: bool = False
    small: Case | None = None


ROWS = {
    "powers": Row(Case("mmd", 2048, 128, "powers"), _ALL, small=Case("mmd", 256, 128, "powers")),
    "arbitrary": Row(Case("mmd", 2048, 128, "arbitrary"), _ARBITRARY, small=Case("mmd", 256, 128, "arbitrary")),
    "rational-quadratic": Row(
        Case("mmd", 2048, 128, "rational quadratic"), (*_FORMULA, "cdist-compiled", "cdist-eager"),
        small=Case("mmd", 256, 128, "rational quadratic"),
    ),
    "d16": Row(Case("mmd", 2048, 16, "powers"), _ALL, small=Case("mmd", 256, 16, "powers")),
    "polynomial": Row(Case("mmd", 1000, 2048, "polynomial"), _FORMULA, small=Case("mmd", 128, 256, "polynomial")),
    "kid": Row(
        Case("kid", 10_000, 2048, subsets=100, size=1000), ("ours", "fidelity"), seconds=12.0, peaks=True,
        small=Case("kid", 1000, 256, subsets=5, size=200),
    ),
    "minibatch": Row(
        Case("minibatch", 256, 100), ("ours", "broadcast-compiled", "broadcast-eager"), peaks=True, small=Case("minibatch", 64, 20)
    ),
    "memory": Row(Case("mmd", 20_000, 128, "powers"), ("ours",), "memory", small=Case("mmd", 2000, 128, "powers")),
    "large": Row(Case("mmd", 100_000, 64, "powers"), ("ours",), "memory", small=Case("mmd", 4000, 64, "powers")),
    "scaling": Row(Case("mmd", 0, 128, "powers"), _SCALING, "scaling", seconds=5.0, small=Case("mmd", 0, 128, "powers")),
}  # fmt: skip

# Compiling is most of a quick run, KeOps' formulas included: it is done in these rows only.
_COMPILED_WHEN_QUICK = ("powers", "minibatch")
_QUICK_SECONDS = 0.5
_QUICK_SIZES = (256, 512)


def measure(name: str, device: str, quick: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The result of a row: what was measured, or why it was refused. say: takes a line of progress."""
    row = ROWS[name]
    if quick:
        row = replace(row, case=row.small or row.case, seconds=_QUICK_SECONDS)
    case = replace(row.case, device=device)
    there, left_out = present(row, name, quick, torch.device(device))
    found: dict[str, Any] = {"row": name, "commit": environment.commit()}
    # Compiled code of one row must not count towards the limit of recompilations of the next.
    torch.compiler.reset()
    try:
        if row.how == "scaling":
            sizes = _QUICK_SIZES if quick else _SIZES
            points = list(scale(case, there, sizes, row.seconds, say))
            return {**found, "case": f"D {case.d}", "points": points, "left_out": left_out}
        found["case"] = cases.describe(case)
        say(f"{name}: {found['case']}")
        if row.how == "memory":
            found["bodies"] = {body: _single(case, body) for body in there}
        else:
            found["bodies"] = compare(case, there, row.seconds, left_out)
        for body in [b for b in there if row.peaks and b in found["bodies"]]:
            found["bodies"][body] |= {"mb": (peak.measured(case, body) or {}).get("mb")} if peak.known() else {}
    except Refused as error:
        say(f"refused: {error}")
        return {**found, "refused": str(error)}
    return {**found, "left_out": left_out}


def present(row: Row, name: str, quick: bool, device: torch.device) -> tuple[list[str], dict[str, str]]:
    """The row's bodies that can run here, and why the others cannot."""
    reasons = {}
    for body in row.bodies:
        reason = peers.missing(body, device)
        if reason is None and quick and name not in _COMPILED_WHEN_QUICK and (body == "keops" or body.endswith("-compiled")):
            reason = "left out of a quick run"
        if reason:
            reasons[body] = reason
    return [b for b in row.bodies if b not in reasons], reasons


def compare(
    case: Case, names: list[str], seconds: float, left_out: dict[str, str], rounds: tuple[int, int] = (5, 100)
) -> dict[str, dict[str, Any]]:
    """Times and errors of each body. A peer that stops with an error goes to left_out. Raises Refused."""
    check = lambda name, found: cases.check(case, name, found)
    return timing.compare(names, lambda name: cases.body(case, name), check, seconds, left_out, rounds, fresh=True)


def _single(case: Case, name: str) -> dict[str, Any]:
    found = peak.measured(case, name, limit=1800.0, check=True)
    if found is None:
        raise GancoreError(f"{peers.LABELS[name]} did not complete {cases.describe(case)}")
    return {"ms": 1e3 * found.pop("seconds"), **found}


def scale(
    case: Case, names: list[str], sizes: tuple[int, ...], seconds: float, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A point for each size, in rising order: times, errors and memory of the bodies, and who is left out and why."""
    last: dict[str, dict[str, Any]] = {}
    gone: dict[str, str] = {}
    for n in sizes:
        here = replace(case, n=n)
        for name in names:
            reason = gone.get(name) or too_much(last.get(name))
            if reason and name != "ours":
                gone[name] = reason
        playing = [name for name in names if name not in gone]
        torch.compiler.reset()
        memory = {name: peak.measured(here, name) if peak.known() else None for name in playing}
        for name in [b for b in playing if memory[b] is None and peak.known() and b != "ours"]:
            gone[name] = "did not complete"
            playing.remove(name)
        point = compare(here, playing, seconds, gone, rounds=(1 if n > _ONCE else 3, 50))
        last = {name: {**row, "mb": (memory[name] or {}).get("mb")} for name, row in point.items()}
        say(f"scaling: N {n:,}: " + ", ".join(f"{peers.LABELS[b]} {r['ms']:.4g} ms, {r['mb']} MB" for b, r in last.items()))
        yield {"n": n, "bodies": last, "left_out": dict(gone)}


def too_much(last: dict[str, Any] | None) -> str | None:
    """Why a body that needed `last` at half the size is left out, or None: with N doubled, time and memory grow four times."""
    if last is None:
        return None
    if 4e-3 * last["ms"] > MOST_SECONDS:
        return f"over {MOST_SECONDS:.0f} s"
    if 4e6 * (last.get("mb") or 0) > MOST_BYTES:
        return f"over {MOST_BYTES / 1e9:.0f} GB"
    return None


# -- files -------------------------------------------------------------------------------------------------------------------


def path_of(device: str) -> Path:
    """The result file of this kind of device."""
    return files.path_of("mmd", device)


def load(path: Path) -> dict[str, Any]:
    """A result file. Raises DataError where there is none or it is not one."""
    return files.load("mmd", path)


def draw(result: dict[str, Any], path: Path) -> bool:
    """Draw the plot of the row "scaling" if the result has one; whether it does."""
    from gancore.benchmarks import plots

    row = next((r for r in result["rows"] if r["row"] == "scaling" and "points" in r), None)
    if row is None:
        return False
    plots.scaling(row, path)
    return True


def lines(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a terminal shows: row, body, milliseconds, ratio to ours, megabytes; then why a body is absent."""
    found: list[tuple[str, ...]] = []
    for row in result["rows"]:
        if "refused" in row:
            found.append((row["row"], "refused: " + row["refused"], "", "", ""))
            continue
        titled = {f"{row['row']}: {row['case']}": row}
        if "points" in row:
            titled = {f"{row['row']}: N {p['n']:,}, {row['case']}": p for p in row["points"]}
        for title, point in titled.items():
            for body, b in point["bodies"].items():
                mb = "" if b.get("mb") is None else f"{b['mb']:.4g}"
                found.append((title, peers.LABELS[body], f"{b['ms']:.4g}", f"{b['ratio']:.3g}" if "ratio" in b else "", mb))
            found += [(title, peers.LABELS[body], reason, "", "") for body, reason in point["left_out"].items()]
    return found


HEADINGS = ("row", "body", "ms", "of ours", "MB")


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, write the result and the plot, and return the table. Raises GancoreError in the end if a row was refused."""
    if unknown := [name for name in asked.rows if name not in ROWS]:
        raise UsageError(f"mmd has no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    device = environment.pick_device(asked.device)
    own = path_of(device.type)
    path = asked.out or (None if asked.quick else own)
    if asked.table:
        result = load(asked.out or own)
    else:
        head = lambda: {**files.about(device, ("pykeops", "torch-fidelity")), "quick": asked.quick}
        one = lambda name: measure(name, device.type, asked.quick, say)
        result = files.measured("mmd", path, list(ROWS), list(asked.rows or ROWS), one, head)
    if path == own:
        draw(result, files.ROOT / PLOT.format(device=device.type) if own.is_relative_to(files.ROOT) else own.with_suffix(".png"))
    comparison.tell(asked.old, result, say)
    if not asked.table:
        files.refuse([row["refused"] for row in result["rows"] if "refused" in row])
    return HEADINGS, lines(result)
