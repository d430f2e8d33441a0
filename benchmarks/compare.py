"""Two results of one benchmark: what got slower by more than the spread of either."""

from collections.abc import Iterator
from typing import Any


def slower(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line for each of gancore's points whose quartiles lie above those of the old result; one line where there is none."""
    before = dict(_ours(old))
    found = []
    for title, body in _ours(new):
        if title in before and body["quartiles"][0] > before[title]["quartiles"][1] and body["ms"] > before[title]["ms"]:
            was = before[title]
            found.append(f"slower: {title}: {body['ms']:.4g} ms, was {was['ms']:.4g} ms ({body['ms'] / was['ms']:.3g}x)")
    common = sum(title in before for title, _ in _ours(new))
    return found or [f"nothing got slower by more than the spread, of {common} points in both results"]


def _ours(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in result["rows"]:
        for point in row.get("points", (row,)):
            body = point.get("bodies", {}).get("ours")
            if body and "quartiles" in body:
                yield f"{row['row']}: {point.get('case', '')}", body
