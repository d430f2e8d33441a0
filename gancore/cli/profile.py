"""`gancore profile`: where the time and the memory of a recipe's step go."""

from pathlib import Path
from typing import Any

import click

from gancore.cli import screen
from gancore.cli.words import Raw, loop_options, read

USAGE = "gancore profile RECIPE [--measure STEPS] [--out FOLDER] [--option VALUE ...]"


@click.command(cls=Raw)
def profile(words: tuple[str, ...]) -> None:
    """Profile a recipe's training step: phases, operators, memory."""
    from gancore.core import UsageError
    from gancore.profiling import profile as measure
    from gancore.profiling import write
    from gancore.recipes import get

    if not words or {"-h", "--help"}.intersection(words):
        click.echo(f"Usage: {USAGE}\n\n  Options and parameters are those of gancore train.")
        click.echo("  --measure: steps at most, 20 by default. --out: folder of profile.html, profile.json, trace.json, phases.csv")
        click.echo("  and operators.csv, profiles/RECIPE by default.")
        return
    if words[0].startswith("-"):
        raise UsageError(f"the recipe comes first: {USAGE}")
    entry = get(words[0], "recipe")
    kinds = {k: p.annotation for k, p in entry.parameters().items()}
    extra, values = read(words[1:], {**loop_options(), **kinds, "measure": int})
    if extra:
        raise UsageError(f"unexpected {extra[0]!r}: options are --name value or --name=value")
    folder, steps = Path(values.pop("out", "") or Path("profiles") / entry.id), values.pop("measure", 20)
    if steps < 2:
        raise UsageError(f"measure must be at least 2 steps, got {steps}")
    found = measure(words[0], steps, **values)
    _show(found.facts)
    for path in write(found, folder).values():
        click.echo(f"wrote {path}")


def _show(facts: dict[str, Any]) -> None:
    steps = facts["steps"]
    rows = [(r["phase"], f"{1e3 * r['seconds'] / steps:.3g}", f"{100 * r['share']:.1f} %") for r in facts["phases"]]
    screen.table(("phase", "ms a step", "share"), rows)
    operators = [
        (r["operator"], f"{r['calls']:.3g}", f"{1e3 * r['seconds']:.3g}", f"{100 * r['share']:.1f} %",
         f"{r['bandwidth'] / 1e9:.3g}", f"{r['rate'] / 1e9:.3g}") for r in facts["operators"][:12]
    ]  # fmt: skip
    screen.table(("operator", "calls", "ms a step", "share", "GB/s", "Gflop/s"), operators)
    for row in facts["losses"][:5]:
        click.echo(f"- {row['sentence']}")


COMMANDS = (profile,)
