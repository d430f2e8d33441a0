"""Two results of one benchmark: what got slower by more than the spread of either."""

from collections.abc import Callable, Iterator
from typing import Any


def tell(old: dict[str, Any] | None, new: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say what got slower than in the old result, if there is one."""
    for line in () if old is None else slower(old, new):
        say(line)


def slower(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line for each of gancore's points whose quartiles lie above those of the old result, or that a row has no more; one line
    where there is none. Another device is told first: no figure is then comparable."""
    before, after = dict(_ours(old)), dict(_ours(new))
    measured = {row["row"] for row in new["rows"]}
    told = old.get("device"), new.get("device")
    found = [f"measured on {told[1]}, the old result on {told[0]}"] if told[0] != told[1] else []
    # A quick run leaves shapes out on purpose.
    missed = [] if new.get("quick") and not old.get("quick") else [title for title in before if title not in after]
    found += [f"gone: {title}" for title in missed if title.partition(": ")[0] in measured]
    for title, body in after.items():
        if title in before and body["quartiles"][0] > before[title]["quartiles"][1] and body["ms"] > before[title]["ms"]:
            was = before[title]
            found.append(f"slower: {title}: {body['ms']:.4g} ms, was {was['ms']:.4g} ms ({body['ms'] / was['ms']:.3g}x)")
    common = len(before.keys() & after.keys())
    return found or [f"nothing got slower by more than the spread, of {common} points in both results"]


def _ours(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in result["rows"]:
        for point in row.get("points", (row,)):
            body = point.get("bodies", {}).get("ours")
            if body and "quartiles" in body:
                # Points of a curve over N have the case of their row.
                yield f"{row['row']}: {point['case'] if 'case' in point else point['n']}", body
