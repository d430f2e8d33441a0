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
    points = row["points"]
    figure, panels = _panels((9.5, 3.9), 2)
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
    _save(figure, path, points)


def operators(result: dict[str, Any], path: Path) -> None:
    """Of the largest float32 shapes of each operator, how many times gancore's time its peers take, forward and backward, as PNG.

    result: of `gancore bench operators`; the fingerprint of its rows goes into the file.
    """
    from gancore.benchmarks.operators import LABELS as bodies

    last = {}
    for row in result["rows"]:
        points = [p for p in row["points"] if p["work"] == "backward" and p["dtype"] == "float32" and "bodies" in p]
        if points:
            last[f"{row['row']}\n{points[-1]['class']}"] = points[-1]["bodies"]
    names = [name for name in bodies if name != "ours" and any(name in found for found in last.values())]
    figure, (panel,) = _panels((9.5, 1.2 + 0.5 * len(last)), 1)
    for i, name in enumerate(names):
        have = [(at, found[name]["ratio"]) for at, found in enumerate(last.values()) if name in found]
        places = [at + 0.8 * ((i + 0.5) / len(names) - 0.5) for at, _ in have]
        panel.barh(places, [ratio for _, ratio in have], 0.8 / len(names), color=COLOURS[1 + i], label=bodies[name])
    panel.axvline(1, color=COLOURS[0], linewidth=1.6, label="gancore")
    panel.set_xscale("log")
    panel.set_yticks(range(len(last)), list(last), fontsize=8)
    panel.invert_yaxis()
    panel.set_xlabel("time, of gancore's; forward and backward, float32", fontsize=9)
    panel.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    _save(figure, path, result["rows"])


def batch(result: dict[str, Any], path: Path) -> None:
    """Throughput and memory over the batch size of each recipe, as PNG. result: of `gancore bench batch`, as above."""
    figure, panels = _panels((9.5, 3.9), 2)
    for panel, key, title in zip(panels, ("samples_per_second", "mb"), ("samples a second", "memory held (MB)"), strict=True):
        for row, colour, mark in zip(result["rows"], COLOURS, _MARKS, strict=False):
            have = [(int(p["shape"]), p["bodies"]["ours"][key]) for p in row["points"]]
            panel.loglog(*zip(*have, strict=True), mark + "-", color=colour, markersize=4, label=row["row"])
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("batch size", fontsize=9)
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    _save(figure, path, result["rows"])


def _panels(size: tuple[float, float], count: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _save(figure: Any, path: Path, figures: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110, metadata={"Description": fingerprint(figures), "Software": None})


def fingerprint(figures: Any) -> str:
    """Of a result's figures: a plot that bears it was made from them."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()[:16]


def _label(name: str, points: list[dict[str, Any]]) -> str:
    for point in points:
        if name in point["left_out"]:
            return f"{LABELS[name]} (left out from N {point['n']:,}: {point['left_out'][name]})"
    return LABELS[name]
