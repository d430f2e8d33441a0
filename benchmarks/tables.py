"""Tables of the README, made from committed results: `python -m benchmarks.tables` writes them, a test checks that they agree."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def operators() -> str:
    """Each operator's largest shape on a CPU: milliseconds of forward plus backward, and the body that "auto" chooses."""
    rows = json.loads((ROOT / "benchmarks/results/dispatch-cpu.json").read_text())["rows"]
    chosen = json.loads((ROOT / "kernels/_dispatch.json").read_text())
    large = max((row["shapes"]["x"] for row in rows), key=lambda shape: _size(shape))
    lines = ["| operator, activation, type | shape | eager PyTorch | native | auto uses |", "|---|---|---|---|---|"]
    for row in rows:
        if row["shapes"]["x"] != large or "native" not in row["seconds"]:
            continue
        _, (reference, native) = zip(*(row["seconds"][body] for body in ("reference", "native")), strict=True)
        what, shape = " ".join(row["key"].split("/")[:-1]), "x".join(map(str, large))
        lines.append(f"| {what} | {shape} | {1e3 * reference:.2f} ms | {1e3 * native:.2f} ms | {chosen[row['key']]} |")
    one = rows[0]
    return "\n".join([*lines, "", f"{one['cpu']}, {one['threads']} thread, torch {one['torch']}, commit {one['commit'][:12]}."])


def digits() -> str:
    """What the acceptance check of the recipe behind `make train` measured."""
    found = json.loads((ROOT / "tests/accept/results/projection-gan.json").read_text())
    lines = ["| judged by the digits network | wanted | seed 0 | seed 1 |", "|---|---|---|---|"]
    for a, b in zip(*(seed["clauses"] for seed in found["seeds"].values()), strict=True):
        lines.append(f"| {a['name']} | {a['wanted'].replace('>=', '≥').replace('<=', '≤')} | {a['value']:.4g} | {b['value']:.4g} |")
    return "\n".join([*lines, "", f"torch {found['versions']['torch']}, one thread, commit {found['commit']}."])


def _size(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


TABLES = {"operators": operators, "digits": digits}


def filled(text: str) -> str:
    """The text with every table between its marks `<!-- name -->` and `<!-- /name -->` made anew."""
    for name, table in TABLES.items():
        head, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        text = f"{head}{mark}{table()}\n{end}{tail}"
    return text


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
