"""The roofline of a machine, and what runs on it, as coordinates of a chart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gancore.report.charts import HEIGHT, WIDTH


def roofline(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, float]) -> dict[str, Any]:
    """The roofline in coordinates: operations a byte against operations a second, both as powers of ten.

    rows: what has `bandwidth` (bytes a second), `rate` (operations a second) and `share`, the area of its circle.
    """
    points = [
        (math.log10(row["rate"] / row["bandwidth"]), math.log10(row["rate"]), row)
        for row in rows
        if row["bandwidth"] > 0 and row["rate"] > 0
    ]
    copy, rate = machine["copy"], machine["rate"]
    ridge = math.log10(rate / copy)
    xs = [x for x, _, _ in points] + [ridge - 1, ridge + 1]
    low, high = math.floor(min(xs)), math.ceil(max(xs))
    top = math.ceil(math.log10(rate))
    bottom = math.floor(min([y for _, y, _ in points] + [math.log10(copy) + low, top - 3]))
    bottom = max(bottom, top - 8)
    across = lambda x: round(48 + (WIDTH - 58) * (x - low) / (high - low), 2)
    up = lambda y: round(HEIGHT - 26 - (HEIGHT - 36) * (max(y, bottom) - bottom) / (top - bottom), 2)
    roof = [(low, math.log10(copy) + low), (ridge, math.log10(rate)), (high, math.log10(rate))]
    return {
        "path": "M" + "L".join(f"{across(x)},{up(y)}" for x, y in roof),
        "points": [{"x": across(x), "y": up(y), "r": round(2 + 14 * row["share"] ** 0.5, 1), "row": row} for x, y, row in points],
        "x_ticks": [(across(e), f"1e{e}") for e in range(low, high + 1)],
        "y_ticks": [(up(e), f"1e{e}") for e in range(bottom, top + 1)],
    }
