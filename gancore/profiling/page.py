"""The page of a profile."""

from typing import Any

from gancore.profiling.losses import ms
from gancore.report.charts import HEIGHT, WIDTH, chart, number
from gancore.report.page import fill
from gancore.report.roofline import roofline

SHOWN = 12


def render(facts: dict[str, Any]) -> str:
    """One HTML page that asks the network for nothing: the largest losses in sentences, phases, operators, roofline, memory."""
    memory = [(t, b / 1e6) for t, b in facts["memory"]]
    curve = chart("memory allocated since the trace began, MB", {"MB": memory}, (0.0, memory[-1][0]), log=False) if memory else None
    return fill(
        "gancore.profiling", "profile.html.j2", {"ms": ms, "number": number, "percent": _percent},
        run=facts, largest=[row for row in facts["losses"] if row["lost"] > 0][:SHOWN], phases=facts["phases"],
        operators=facts["operators"], curve=curve, roof=roofline(facts["operators"], facts["machine"]), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if abs(share) < 1 else f"{100 * share:.0f} %"
