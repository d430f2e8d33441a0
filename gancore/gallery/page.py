"""The page of the gallery, drawn from results alone: the ranking, and a card for each recipe, by family."""

import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gancore import about, data
from gancore.checkpoint import write_atomic
from gancore.figures import panels_of
from gancore.gallery.measure import UNITS
from gancore.gallery.ranking import RULE, Row, ranked
from gancore.gallery.store import Result
from gancore.recipes import get, names
from gancore.report.charts import HEIGHT, WIDTH, Chart, chart, number
from gancore.report.page import fill

DOTS, MARGIN = 1000, 1.25
BESIDE = 2  # charts that stand beside the pictures, the others fold away
ENDS = ("refused", "diverged", "failed")
_TITLES = {"modes": "modes", "hq": "high quality", "fid": "FID", "classes": "classes"}


def write(results: Mapping[str, Result], path: Path) -> None:
    """Write the page of results. Raises OutputError, UsageError without jinja2."""
    page = render(results).encode()
    write_atomic(path, lambda file: file.write(page))


def render(results: Mapping[str, Result]) -> str:
    """The page as text: recipes, and below them demonstrations, whose results have figures and no runs."""
    demos = {name: result for name, result in results.items() if "figures" in result}
    results = {name: result for name, result in results.items() if name not in demos}
    rows = ranked(results)
    sets = list(dict.fromkeys(name for result in results.values() for name in result["runs"]))
    cards = [_card(row, results[row.recipe]) for row in sorted(rows, key=lambda r: r.recipe)]
    families: dict[str, list[dict[str, Any]]] = {}
    for card in sorted(cards, key=lambda c: c["family"]):
        families.setdefault(card["family"], []).append(card)
    judged = {name: [key for key in _TITLES if key in _scores(results, name)] for name in sets}
    shown = {*results, *demos}
    return fill(
        "gancore.gallery", "gallery.html.j2", {"number": number, "figure": _figure},
        rows=rows, rule=RULE, families=families, backdrops={name: _backdrop(name) for name in sets}, judged=judged, titles=_TITLES,
        ended=[(r.recipe, name, word, run[word]) for r in rows for name, run in r.runs.items() for word in ENDS if word in run],
        missing=[name for kind in ("recipe", "demo") for name in names(kind) if name not in shown],
        demos=[{**_head(name), "result": result} for name, result in sorted(demos.items())],
        told=_told(results, sets), labelled=_labelled(rows), family_of={row.recipe: get(row.recipe).family for row in rows},
        width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _card(row: Row, result: Result) -> dict[str, Any]:
    views = [_view(name, run) for name, run in result["runs"].items()]
    drawn = next((view for view in views if view["charts"]), None)
    beside = [(c, drawn["data"]) for c in drawn["charts"][:BESIDE]] if drawn else []
    if drawn:
        drawn["charts"] = drawn["charts"][BESIDE:]
    return {**_head(row.recipe), "rank": row.rank, "views": views, "beside": beside}


def _head(name: str) -> dict[str, Any]:
    """What an entry says of itself."""
    entry = get(name)
    first, _, formula = about.text(entry).partition("\n")
    paper = about.paper(first)
    place, _, where = paper.partition(":")
    link = {"arXiv": f"https://arxiv.org/abs/{where}", "doi": f"https://doi.org/{where}"}.get(place, "")
    formulas = [" ".join(part.split()) for part in formula.strip().split("\n\n")]
    return {"id": name, "family": entry.family, "title": first, "paper": paper, "link": link, "formula": formulas}


def _view(name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as the template shows it: a picture or points, what was covered, curves; or why there is none."""
    ended = next((f"{word}: {run[word]}" for word in ENDS if word in run), "")
    view: dict[str, Any] = {"data": name, "run": run, "ended": ended, "charts": [], "points": "", "stray": 0}
    if ended:
        return view
    if "points" in run:
        reach = _reach(name)
        points = list(zip(run["points"][::2], run["points"][1::2], strict=True))
        shown = [(x, y) for x, y in points if max(abs(x), abs(y)) <= reach]
        view |= {"points": dots(shown), "stray": len(points) - len(shown), "count": len(points)}
    return {**view, "charts": charts(run["curves"])}


def dots(points: list[tuple[int, int]]) -> str:
    """Points as an SVG path of strokes without length, whose round caps are the dots; y grows upwards."""
    return "".join(f"M{x} {-y}h0" for x, y in points)


def charts(columns: Mapping[str, list[float | None]]) -> list[Chart]:
    """Curves of a result as charts, a panel each for a phase, a metric, a state; coordinates in whole units, for size."""
    records = [{k: v for k, v in zip(columns, line, strict=True) if v is not None} for line in zip(*columns.values(), strict=True)]
    last = max((r["step"] for r in records), default=1)
    found = [chart(title, curves, (0.0, float(last))) for title, curves in panels_of(records).items()]
    whole = lambda path: re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.0f}", path)
    return [replace(c, series=[replace(s, path=whole(s.path)) for s in c.series]) for c in found]


def _reach(name: str) -> int:
    """Half the side of the window around a data set of points, in units of the results."""
    return round(MARGIN * UNITS * float(data.load(name).all()["x"].abs().max()))


def _backdrop(name: str) -> dict[str, Any] | None:
    """The data behind generated points, None for images."""
    found = data.load(name)
    if found.is_image:
        return None
    points = (found.all()["x"][:DOTS] * UNITS).round().long().tolist()
    return {"path": dots([(x, y) for x, y in points]), "reach": _reach(name)}


def _told(results: Mapping[str, Result], sets: list[str]) -> dict[str, Any]:
    """What the page says of the whole: budgets, machines, the processor's share, versions, commits."""
    runs = [(name, run) for result in results.values() for name, run in result["runs"].items()]
    budgets = {name: {(run["arguments"]["steps"], run["arguments"]["batch_size"]) for n, run in runs if n == name} for name in sets}
    shares = [run["share"] for _, run in runs if "share" in run]
    return {
        "budgets": {name: sorted(found) for name, found in budgets.items()},
        "uneven": any(len(found) > 1 for found in budgets.values()),
        "machines": sorted({r["machine"] for r in results.values()} - {""}),
        "share": statistics.median(shares) if shares else 1.0,
        "torch": sorted({r["versions"]["torch"] for r in results.values()}),
        "commits": sorted({r["commit"] for r in results.values()} - {""}),
        "seconds": sum(run.get("seconds", 0.0) for _, run in runs),
    }


def _scores(results: Mapping[str, Result], data: str) -> set[str]:
    return {key for result in results.values() for key in result["runs"].get(data, {}).get("scores", {})}


def _labelled(rows: list[Row]) -> set[str]:
    return {row.recipe for row in rows if any(run.get("labels") for run in row.runs.values())}


def _figure(value: float, name: str) -> str:
    return f"{100 * value:.1f} %" if name == "hq" else number(value)
