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
        curves=[c for c in map(_scaling, result["rows"]) if c], colours=_colours(groups, LABELS),
        shares=_best(result), roof=_roof(result), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _scaling(row: dict[str, Any]) -> Any:
    """Time over the number of elements of the first input, where a row has several sizes of one work and type; of steps their
    throughput over the batch."""
    curves: dict[str, list[tuple[float, float]]] = {}
    throughput = any("samples_per_second" in b for p in row["points"] for b in p.get("bodies", {}).values())
    alike: dict[str, list[dict[str, Any]]] = {}
    for p in row["points"]:
        if "bodies" in p and p.get("dtype") == "float32" and p["shape"] and p["work"] in ("backward", "step"):
            # Classes of shapes end in their size; steps of other networks are other work.
            what = p["class"].rpartition("/")[0] if "class" in p else p["case"].replace(f"batch {p['shape']}", "")
            alike.setdefault(what, []).append(p)
    for p in max(alike.values(), key=len, default=[]):
        x = math.log10(math.prod(int(n) for n in p["shape"].split(" x ")))
        for name, body in p["bodies"].items():
            curves.setdefault(name, []).append((x, body["samples_per_second"] if throughput else body["ms"]))
    curves = {name: sorted(points) for name, points in curves.items() if len({x for x, _ in points}) > 1}
    xs = [x for points in curves.values() for x, _ in points]
    unit, across = ("samples a second", "the batch") if throughput else ("ms", "the first input's size")
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
