"""The page of a result: speed, memory, scaling and roofline in one file that asks the network for nothing."""

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gancore.checkpoint import write_atomic
from gancore.report.charts import HEIGHT, WIDTH, chart
from gancore.report.page import fill
from gancore.report.roofline import roofline


def write(result: dict[str, Any], path: Path) -> None:
    """Write the page of a result of `gancore bench operators` or `gancore bench batch`."""
    page = render(result).encode()
    write_atomic(path, lambda file: file.write(page))


def offered(result: dict[str, Any], path: Path, say: Callable[[str], None]) -> None:
    """Write the page beside a result file; where jinja2 is missing, say so."""
    if find_spec("jinja2"):
        write(result, path.with_suffix(".html"))
    else:
        say('no page: jinja2 is not installed: pip install "gancore[bench]"')


def render(result: dict[str, Any]) -> str:
    """The page as text."""
    from gancore.benchmarks.operators import LABELS

    groups = []
    for row in result["rows"]:
        points = [p for p in row["points"] if "bodies" in p]
        refused = [p for p in row["points"] if "refused" in p]
        groups.append({"name": row["row"], "points": points, "refused": refused})
    filters: dict[str, Callable[..., str]] = {"short": lambda value: f"{value:.4g}", "share": lambda value: f"{100 * value:.3g} %"}
    most = max((b["ratio"] for g in groups for p in g["points"] for b in p["bodies"].values()), default=1.0)
    return fill(
        "gancore.benchmarks", "page.html.j2", filters, result=result, groups=groups, labels=LABELS, most=most,
        scaling={
            title: [c for row in result["rows"] if (c := _scaling(row, what))]
            for title, what in (("Scaling", "time"), ("Memory", "memory"))
        },
        colours=_colours(groups, LABELS),
        shares=_best(result), roof=_roof(result), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _scaling(row: dict[str, Any], what: str) -> Any:
    """A chart of time or memory over the number of elements of the first input, where a row has several sizes of one work and type;
    of steps over the batch, and their throughput for time. With what lies across; None where there are no curves."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for p in row["points"]:
        if "bodies" in p and p.get("dtype") == "float32" and p["shape"] and p["work"] in ("backward", "step"):
            # Classes of shapes end in their size; steps of other networks are other work.
            work = p["class"].rpartition("/")[0] if "class" in p else p["case"].replace(f"batch {p['shape']}", "")
            alike.setdefault(work, []).append(p)
    points = max(alike.values(), key=len, default=[])
    steps = any("samples_per_second" in body for p in points for body in p["bodies"].values())
    key, unit = ("mb", "MB") if what == "memory" else ("samples_per_second", "samples a second") if steps else ("ms", "ms")
    curves: dict[str, list[tuple[float, float]]] = {}
    for p in points:
        x = math.log10(math.prod(int(n) for n in p["shape"].split(" x ")))
        for name, body in p["bodies"].items():
            if key in body:
                curves.setdefault(name, []).append((x, body[key]))
    curves = {name: sorted(curve) for name, curve in curves.items() if len({x for x, _ in curve}) > 1}
    xs = [x for curve in curves.values() for x, _ in curve]
    across = "the batch" if steps else "the first input's size"
    return (chart(f"{row['row']}, {unit}", curves, (min(xs), max(xs))), across) if curves else None


def _colours(groups: list[dict[str, Any]], labels: Iterable[str]) -> dict[str, int]:
    """A number for each body of the result, the same in every panel."""
    found = {name for g in groups for p in g["points"] for name in p["bodies"]}
    return {name: i for i, name in enumerate(n for n in labels if n in found)}


def _roof(result: dict[str, Any]) -> dict[str, Any] | None:
    """gancore's points under the machine's roofline, the fewest bytes and the operations of plain PyTorch counted."""
    rows = []
    for row in result["rows"]:
        for p in row["points"]:
            if p.get("operations") and "bodies" in p:
                seconds, name = p["bodies"]["ours"]["ms"] / 1e3, f"{row['row']}: {p['case']}"
                bandwidth, rate = p["least_bytes"] / seconds, p["operations"] / seconds
                rows.append({"bandwidth": bandwidth, "rate": rate, "share": 0.02, "name": name})
    return roofline(rows, result["machine"]) if rows else None


def _best(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each operator's best point the share of the machine's copy bandwidth, ours and eager."""
    found = []
    for row in result["rows"]:
        shares = [(p["bodies"], p["case"]) for p in row["points"] if "of_copy" in p.get("bodies", {}).get("ours", {})]
        if shares:
            bodies, case = max(shares, key=lambda pair: pair[0]["ours"]["of_copy"])
            ours, eager = bodies["ours"]["of_copy"], bodies.get("eager", {}).get("of_copy", 0)
            found.append({"name": row["row"], "case": case, "ours": ours, "eager": eager})
    return found
