"""Tables of the README, made from committed results: `python -m benchmarks.tables` writes them, a test checks that they agree."""

import json
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OPERATORS_PLOT, BATCH_PLOT = "docs/operators-cpu.png", "docs/batch-cpu.png"


def operators() -> str:
    """Of each operator and type on a CPU how many times the native body's time eager PyTorch takes, and where "auto" chooses it."""
    rows = json.loads((ROOT / "benchmarks/results/dispatch-cpu.json").read_text())["rows"]
    chosen = json.loads((ROOT / "kernels/_dispatch.json").read_text())
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "native" in row["seconds"]:
            name, _, dtype, *_ = row["key"].split("/")
            groups.setdefault(f"{name}, {dtype}", []).append(row)
    lines = ["| operator, type | eager / native, median | least to most | auto uses native |", "|---|---|---|---|"]
    for name, group in groups.items():
        ratios = sorted(row["seconds"]["reference"][1] / row["seconds"]["native"][1] for row in group)
        native = sum(chosen[row["key"]] == "native" for row in group)
        middle = f"**{median(ratios):.2f}x** | {ratios[0]:.2f} to {ratios[-1]:.3g}"
        lines.append(f"| {name} | {middle} | in {native} of {len(group)} classes |")
    one, commits = rows[0], ", ".join(sorted({row["commit"][:12] for row in rows}))
    return "\n".join([*lines, "", f"{one['cpu']}, {one['threads']} thread, torch {one['torch']}, commits {commits}."])


def digits() -> str:
    """What the acceptance check of the recipe behind `make train` measured."""
    found = json.loads((ROOT / "tests/accept/results/projection-gan.json").read_text())
    lines = ["| judged by the digits network | wanted | seed 0 | seed 1 |", "|---|---|---|---|"]
    for a, b in zip(*(seed["clauses"] for seed in found["seeds"].values()), strict=True):
        lines.append(f"| {a['name']} | {a['wanted'].replace('>=', '≥').replace('<=', '≤')} | {a['value']:.4g} | {b['value']:.4g} |")
    return "\n".join([*lines, "", f"torch {found['versions']['torch']}, one thread, commit {found['commit']}."])


_MMD_COLUMNS = {
    "best compiled formula": ("blocks-compiled", "single-compiled", "broadcast-compiled"),
    "derivative by hand, compiled": ("closed-compiled",),
    "formula, eager": ("blocks-eager", "broadcast-eager"),
    "cdist, compiled": ("cdist-compiled",),
    "cdist, eager": ("cdist-eager",),
    "KeOps": ("keops",),
}


def mmd() -> str:
    """Times of the MMD benchmark on a CPU and how many times gancore's each is; KID, large samples and the plot below it."""
    path = ROOT / "benchmarks/results/mmd-cpu.json"
    return mmd_text(json.loads(path.read_text())) if path.exists() else "Not measured yet: `gancore bench mmd`."


def mmd_text(result: dict[str, Any]) -> str:
    """The same of a result file's content."""
    rows = {row["row"]: row for row in result["rows"]}
    timed = [row for name, row in rows.items() if name not in ("kid", "memory", "large", "scaling")]
    lines = [f"| value and gradient in x | gancore | {' | '.join(_MMD_COLUMNS)} |", "|---" * (2 + len(_MMD_COLUMNS)) + "|"]
    for row in timed:
        if "refused" in row:
            lines.append(f"| {row['row']} | refused: {row['refused']} |" + " |" * len(_MMD_COLUMNS))
            continue
        best = [min((row["bodies"][b] for b in names if b in row["bodies"]), key=lambda b: b["ms"], default=None)
                for names in _MMD_COLUMNS.values()]  # fmt: skip
        cells = ["" if b is None else f"{_ms(b['ms'])}, **{b['ratio']:.3g}x**" for b in best]
        what = row["case"] if row["row"] != "minibatch" else f"minibatch discrimination, {row['case']}"
        lines.append(f"| {what} | {_ms(row['bodies']['ours']['ms'])} | {' | '.join(cells)} |")
    lines += ["", *_mmd_notes(rows)]
    commits = ", ".join(sorted({row["commit"] for row in result["rows"]}))
    versions = result["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "pykeops", "torch-fidelity"))
    return "\n".join([*lines, "", f"{result['device']}, {packages}, commit {commits}."])


def _mmd_notes(rows: dict[str, Any]) -> list[str]:
    notes = []
    kid = rows.get("kid", {})
    if ours := kid.get("bodies", {}).get("ours"):
        notes.append(f"- KID, {kid['case']}: {_ms(ours['ms'])}{_mb(ours)}, {ours['value_error']:.1g} from float64")
        if theirs := kid["bodies"].get("fidelity"):
            told = f"{_ms(theirs['ms'])} ({theirs['ratio']:.3g}x){_mb(theirs)}, {theirs['value_error']:.1g} from float64"
            notes[-1] += f"; torch-fidelity, the same blocks: {told}"
    for row in (rows[name] for name in ("memory", "large") if "bodies" in rows.get(name, {})):
        ours = row["bodies"]["ours"]
        notes.append(f"- {row['case']}, value and gradient: {_ms(ours['ms'])}{_mb(ours)}")
    absent = {reason for row in rows.values() for reason in row.get("left_out", {}).values()}
    notes += [f"- left out: {reason}" for reason in sorted(absent)]
    if "points" in rows.get("scaling", {}):
        notes += ["", "![Time and memory of an MMD loss over the number of samples](docs/mmd-cpu.png)"]
    return notes


_CONV_COLUMNS = {
    "gancore": "ours", "eager": "eager", "eager, channels_last": "last", "compiled": "eager-compiled",
    "compiled, channels_last": "last-compiled", "bare convolutions": "bare",
}  # fmt: skip


def conv() -> str:
    """Layers, generator, memory and critic of the convolution benchmark, on a CPU and, where measured, on a GPU."""
    paths = [ROOT / f"benchmarks/results/conv-{device}.json" for device in ("cpu", "cuda")]
    found = [conv_text(json.loads(path.read_text())) for path in paths if path.exists()]
    return "\n\n".join(found) or "Not measured yet: `gancore bench conv`."


def conv_text(result: dict[str, Any]) -> str:
    """The same of a result file's content."""
    rows = {row["row"]: row for row in result["rows"]}
    points = [point for name, row in rows.items() if row["how"] == "times" and name != "generator" for point in row["points"]]
    kinds = sorted({(point["dtype"], point["batch"]) for point in points}, key=lambda kind: (kind[0] != "float32", kind))
    lines = [f"| layer | {' | '.join(f'{dtype}, batch {batch}' for dtype, batch in kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for title in dict.fromkeys(point["title"] for point in points):
        found = {(point["dtype"], point["batch"]): _conv_cell(point) for point in points if point["title"] == title}
        lines.append(f"| {title} | {' | '.join(found.get(kind, '') for kind in kinds)} |")
    if "generator" in rows:
        lines += ["", f"| | {' | '.join(_CONV_COLUMNS)} |", "|---" * (1 + len(_CONV_COLUMNS)) + "|"]
        lines += [_line(point, _CONV_COLUMNS) for point in rows["generator"]["points"]]
    lines += ["", *_conv_notes(rows)]
    commits = ", ".join(sorted({row["commit"] for row in result["rows"]}))
    return "\n".join([*lines, "", f"{result['device']}, torch {result['versions']['torch']}, commit {commits}."])


def _conv_cell(point: dict[str, Any]) -> str:
    if "refused" in point:
        return f"refused: {point['refused']}"
    bodies = point["bodies"]
    best = min((b["ratio"] for name, b in bodies.items() if name not in ("ours", "bare")), default=None)
    return _ms(bodies["ours"]["ms"]) + ("" if best is None else f", **{best:.3g}x**")


def _line(point: dict[str, Any], columns: dict[str, str]) -> str:
    if "refused" in point:
        return f"| {point['case']} | refused: {point['refused']} |" + " |" * (len(columns) - 1)
    bodies = [point["bodies"].get(name) for name in columns.values()]
    ours, *others = ["" if b is None else f"{_ms(b['ms'])}, **{b['ratio']:.3g}x**" for b in bodies]
    return f"| {point['case']} | {ours.partition(',')[0]} | {' | '.join(others)} |"


def _conv_notes(rows: dict[str, Any]) -> list[str]:
    notes = []
    for point in rows.get("generator", {}).get("points", ()):
        if bare := point.get("bodies", {}).get("bare"):
            notes.append(f"- {point['case']}: gancore takes {1 / bare['ratio']:.3g} times its bare convolutions")
    for point in rows.get("memory", {}).get("points", ()):
        ours, eager = (point["bodies"].get(name) for name in ("ours", "last"))
        if ours and eager:
            held = f"{ours['held']:.3g} MB for backward, {ours['held'] / eager['held']:.3g} of eager's {eager['held']:.3g} MB"
            notes.append(f"- {point['case']}: holds {held}; at its peak {ours['peak']:.3g} MB, eager {eager['peak']:.3g} MB")
    if points := rows.get("traffic", {}).get("points"):
        most = max(points, key=lambda point: point["cached"] / point["least"])
        ratio = f"{most['cached'] / most['least']:.3g}"
        notes.append(f"- the phase kernel moves at most {ratio} of the least bytes, at {most['case']}")
    absent = {reason for row in rows.values() for point in row["points"] for reason in point.get("left_out", {}).values()}
    return notes + [f"- left out: {reason}" for reason in sorted(absent)]


_CRITIC_COLUMNS = {
    "gancore": "ours", "eager": "eager", "eager, channels_last": "last", "compiled torch.func.grad": "last-compiled",
    "bare convolutions": "bare",
}  # fmt: skip


def critic() -> str:
    """Times and peaks of a critic's whole update, on a CPU and, where measured, on a GPU."""
    paths = [ROOT / f"benchmarks/results/critic-{device}.json" for device in ("cpu", "cuda")]
    found = [critic_text(json.loads(path.read_text())) for path in paths if path.exists()]
    return "\n\n".join(found) or "Not measured yet: `gancore bench critic`."


def critic_text(result: dict[str, Any]) -> str:
    """The same of a result file's content."""
    lines = [f"| update | {' | '.join(_CRITIC_COLUMNS)} |", "|---" * (1 + len(_CRITIC_COLUMNS)) + "|"]
    lines += [_line(point, _CRITIC_COLUMNS) for row in result["rows"] if row["how"] == "times" for point in row["points"]]
    notes = []
    for point in (point for row in result["rows"] if row["how"] == "memory" for point in row["points"]):
        ours, eager = (point.get("bodies", {}).get(name) for name in ("ours", "last"))
        if ours and eager:
            notes.append(f"- {point['case']}: {ours['peak']:.3g} MB at its peak, eager in channels_last {eager['peak']:.3g} MB")
    commits = ", ".join(sorted({row["commit"] for row in result["rows"]}))
    return "\n".join([*lines, "", *notes, "", f"{result['device']}, torch {result['versions']['torch']}, commit {commits}."])


def _ms(ms: float) -> str:
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"


def _mb(body: dict[str, Any]) -> str:
    mb = body.get("mb")
    return "" if mb is None else f" and {mb:{'.3g' if mb < 100 else ',.0f'}} MB beyond its inputs"


_WORKS = ("forward", "backward", "double backward")
_PEERS = ("eager", "last", "compiled", "tuned", "keops", "fidelity")


def bench_operators() -> str:
    """Of `gancore bench operators` the section of the README; nothing where it is not committed."""
    path = ROOT / "benchmarks/results/operators-cpu.json"
    return bench_operators_text(json.loads(path.read_text())) if path.exists() else ""


def bench_operators_text(result: dict[str, Any]) -> str:
    """The same of a result file's content."""
    lines = [
        "`gancore bench operators`, a few of each operator's classes of shapes; `--all` takes every one. In bold, how many times",
        "gancore's time the fastest peer takes (eager, channels_last, compiled, KeOps, torch-fidelity, where there is one); then",
        "the share of the machine's copy bandwidth, the fewest possible bytes counted. Backward includes forward, double backward",
        "includes both.",
        "",
        "| operator | forward | backward | double backward |", "|---|---|---|---|",
    ]  # fmt: skip
    groups: dict[str, dict[str, str]] = {}
    for name, point in ((row["row"], p) for row in result["rows"] for p in row["points"] if p["work"] in _WORKS):
        title = f"{name}, {point['class']}, {point['shape']}, {point['dtype']}"
        groups.setdefault(title, {})[point["work"]] = _operator_cell(point)
    lines += [f"| {title} | {' | '.join(cells.get(work, '') for work in _WORKS)} |" for title, cells in groups.items()]
    steps = [(row["row"], p) for row in result["rows"] for p in row["points"] if p["work"] == "step"]
    if steps:
        columns = {"gancore": "ours", "gancore, compiled": "ours-compiled", "plain PyTorch": "eager", "compiled": "compiled"}
        lines += ["", f"| training step | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        lines += [_line({**point, "case": f"{name}, {point['case'].removeprefix('step, ')}"}, columns) for name, point in steps]
    machine = result["machine"]
    copy = f"copies {machine['copy'] / 1e9:.3g} GB/s, multiplies {machine['rate'] / 1e9:.3g} Gflop/s"
    lines += ["", f"![Time of each operator's peers relative to gancore's]({OPERATORS_PLOT})", ""]
    return "\n".join([*lines, f"{result['device']}, which {copy}; torch {result['versions']['torch']}, commit {_commits(result)}."])


def _operator_cell(point: dict[str, Any]) -> str:
    if "refused" in point:
        return f"refused: {point['refused']}"
    bodies = point["bodies"]
    best = min((bodies[name]["ratio"] for name in _PEERS if name in bodies), default=None)
    ours = bodies["ours"]
    return f"{_ms(ours['ms'])}{'' if best is None else f', **{best:.3g}x**'}, {ours['of_copy']:.2%}"


def batch() -> str:
    """Of `gancore bench batch` the section of the README; nothing where it is not committed."""
    path = ROOT / "benchmarks/results/batch-cpu.json"
    return batch_text(json.loads(path.read_text())) if path.exists() else ""


def batch_text(result: dict[str, Any]) -> str:
    """The same of a result file's content."""
    sizes = sorted({int(point["shape"]) for row in result["rows"] for point in row["points"]})
    lines = ["`gancore bench batch`: samples a second of whole training steps, and the memory held, over the batch size.", "",
             f"| recipe | {' | '.join(map(str, sizes))} |", "|---" * (1 + len(sizes)) + "|"]  # fmt: skip
    for row in result["rows"]:
        bodies = {int(point["shape"]): point["bodies"]["ours"] for point in row["points"]}
        cells = [f"{bodies[n]['samples_per_second']:,.0f}, {bodies[n]['mb']:.3g} MB" if n in bodies else "" for n in sizes]
        lines.append(f"| {row['row']}, {row['case']} | {' | '.join(cells)} |")
    lines += ["", f"![Throughput and memory of training steps over the batch size]({BATCH_PLOT})", ""]
    return "\n".join([*lines, f"{result['device']}, torch {result['versions']['torch']}, commit {_commits(result)}."])


def _commits(result: dict[str, Any]) -> str:
    return ", ".join(sorted({row["commit"] for row in result["rows"]}))


TABLES = {
    "operators": operators, "bench-operators": bench_operators, "batch": batch, "digits": digits, "mmd": mmd, "conv": conv,
    "critic": critic,
}  # fmt: skip


def filled(text: str) -> str:
    """The text with every table between its marks `<!-- name -->` and `<!-- /name -->` made anew."""
    for name, table in TABLES.items():
        head, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        made = table()
        text = head + mark + (f"{made}\n" if made else "") + end + tail
    return text


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
    # Drawing loads matplotlib, which the tables do not need.
    from gancore.benchmarks import files, mmd, plots

    for device in ("cpu", "cuda"):
        if (result := files.path_of("mmd", device)).is_file():
            mmd.draw(mmd.load(result), ROOT / mmd.PLOT.format(device=device))
    for name, (plot, draw) in {"operators": (OPERATORS_PLOT, plots.operators), "batch": (BATCH_PLOT, plots.batch)}.items():
        if (result := files.path_of(name, "cpu")).is_file():
            draw(files.load(name, result), ROOT / plot)


if __name__ == "__main__":
    main()
