"""The page of a profile."""

import math
from typing import Any

from gancore.profiling.losses import ms
from gancore.report.charts import HEIGHT, WIDTH, chart, number
from gancore.report.page import fill

SHOWN = 12


def render(facts: dict[str, Any]) -> str:
    """One HTML page that asks the network for nothing: the largest losses in sentences, phases, operators, roofline, memory."""
    memory = [(t, b / 1e6) for t, b in facts["memory"]]
    curve = chart("memory allocated since the trace began, MB", {"MB": memory}, (0.0, memory[-1][0]), log=False) if memory else None
    return fill(
        "gancore.profiling", "profile.html.j2", {"ms": ms, "number": number, "percent": _percent},
        run=facts, largest=[row for row in facts["losses"] if row["lost"] > 0][:SHOWN], phases=facts["phases"],
        operators=facts["operators"], curve=curve, roof=_roof(facts), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if abs(share) < 1 else f"{100 * share:.0f} %"


def _roof(facts: dict[str, Any]) -> dict[str, Any]:
    """The roofline in coordinates: operations a byte against operations a second, both as powers of ten."""
    points = [
        (math.log10(row["rate"] / row["bandwidth"]), math.log10(row["rate"]), row)
        for row in facts["operators"]
        if row["bandwidth"] > 0 and row["rate"] > 0
    ]
    copy, rate = facts["machine"]["copy"], facts["machine"]["rate"]
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
