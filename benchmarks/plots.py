"""The plots of the documentation, made from result files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gancore.benchmarks.peers import LABELS
from gancore.figures import COLOURS

_MARKS = ("o", "s", "^", "v", "D", "P", "X")


def scaling(row: dict[str, Any], path: Path) -> None:
    """Time and memory over N of each body, side by side, as PNG. Where a curve ends early the legend says why.

    row: the row "scaling" of a result of `gancore bench mmd`; its fingerprint goes into the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = row["points"]
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    names = [name for name in LABELS if any(name in p["bodies"] for p in points)]
    for panel, key, title in zip(panels, ("ms", "mb"), ("time, value and gradient (ms)", "peak extra memory (MB)"), strict=True):
        for name, colour, mark in zip(names, COLOURS, _MARKS, strict=False):
            have = [(p["n"], p["bodies"][name][key]) for p in points if name in p["bodies"] and p["bodies"][name].get(key)]
            if have:
                panel.loglog(*zip(*have, strict=True), mark + "-", color=colour, markersize=4, linewidth=1.6 + (name == "ours"))
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(f"N samples each, {row['case']}, five bandwidths", fontsize=9)
        panel.set_xticks([p["n"] for p in points], [f"{p['n']:,}" for p in points], fontsize=8)
        panel.minorticks_off()
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(alpha=0.3)
    labels = [_label(name, points) for name in names]
    figure.legend(list(panels[0].lines), labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110, metadata={"Description": fingerprint(row), "Software": None})


def fingerprint(row: dict[str, Any]) -> str:
    """Of a row's figures: a plot that bears it was made from them."""
    return hashlib.sha256(json.dumps(row["points"], sort_keys=True).encode()).hexdigest()[:16]


def _label(name: str, points: list[dict[str, Any]]) -> str:
    for point in points:
        if name in point["left_out"]:
            return f"{LABELS[name]} (left out from N {point['n']:,}: {point['left_out'][name]})"
    return LABELS[name]
