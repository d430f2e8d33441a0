"""The order of recipes: a place on each data set, and the mean of the places."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RULE = (
    "On points a recipe's place follows the modes that it covers, then its share of high-quality points; on images its feature FID "
    "against the data, smaller is better. Equal figures share a place, and runs that diverged or failed share the last one. "
    "The rank follows the mean of a recipe's places; on a data set that it cannot take it has the middle one. "
    "Ties go to the cheaper step."
)


@dataclass(frozen=True)
class Row:
    """A recipe in the ranking. rank: from 1, 0 where no data set suits it. places: on each data set where it has one."""

    recipe: str
    rank: int
    places: dict[str, int]
    runs: dict[str, dict[str, Any]]

    @property
    def cost(self) -> float:
        """Milliseconds a step, summed over the data sets."""
        return sum(run.get("ms", 0.0) for run in self.runs.values())


def ranked(results: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Rows by rank, recipes without any place last, by name."""
    places: dict[str, dict[str, int]] = {name: {} for name in results}
    middle: dict[str, float] = {}
    for data in dict.fromkeys(data for result in results.values() for data in result["runs"]):
        runs = {name: result["runs"][data] for name, result in results.items() if data in result["runs"]}
        keys = {name: merit(run) for name, run in runs.items() if "refused" not in run}
        middle[data] = (len(keys) + 1) / 2
        for name, key in keys.items():
            places[name][data] = 1 + sum(other < key for other in keys.values())
    rows = [Row(name, 0, places[name], dict(result["runs"])) for name, result in results.items()]
    mean = lambda row: statistics.mean(row.places.get(data, middle[data]) for data in row.runs)
    placed = sorted((row for row in rows if row.places), key=lambda row: (mean(row), row.cost, row.recipe))
    found = [Row(r.recipe, i, r.places, r.runs) for i, r in enumerate(placed, 1)]
    return found + sorted((r for r in rows if not r.places), key=lambda r: r.recipe)


def merit(run: Mapping[str, Any]) -> tuple[float, ...]:
    """What a run is placed by, smaller is better; the worst of all for one without scores."""
    scores = run.get("scores", {})
    key = (-scores["modes"], -scores["hq"]) if "modes" in scores else (scores["fid"],) if "fid" in scores else (math.inf,)
    return key if all(map(math.isfinite, key)) else (math.inf,)
