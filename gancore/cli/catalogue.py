"""`gancore list` and `gancore show`: what is registered."""

import inspect
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from gancore.cli import screen

if TYPE_CHECKING:
    from gancore.core import Entry

KINDS = ("recipe", "demo", "metric")
_SETS = ("digits8", "ring8", "shapes16", "tones64", "vox8", "calo8")


@click.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only recipes, demonstrations or metrics.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of id, kind, family and title.")
def list_(kind: str | None, as_json: bool) -> None:
    """List recipes, demonstrations and metrics by family."""
    from gancore.recipes import get, names

    entries = sorted((get(name) for name in names(kind)), key=lambda e: (KINDS.index(e.kind), e.family, e.id))
    if as_json:
        screen.dump([{"id": e.id, "kind": e.kind, "family": e.family, "title": e.title} for e in entries])
        return
    for (group, family), members in groupby(entries, key=lambda e: (e.kind, e.family)):
        title = family if family == f"{group}s" else f"{family} ({group}s)"
        screen.table(("id", "title"), [(e.id, e.title) for e in members], title)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show the objective, players and parameters of NAME."""
    from gancore.recipes import get

    facts = describe(get(name))
    if as_json:
        screen.dump(facts)
        return
    click.echo(f"{facts['id']} ({facts['kind']}, {facts['family']})\n\n{facts['doc']}\n")
    if facts["paper"]:
        click.echo(f"Paper: {facts['paper']}\n")
    if facts["players"]:
        rows = [(p, screen.number(count)) for p, count in facts["players"].items()]
        screen.table(("player", "parameters"), rows, f"Players on {facts['data']}")
    if facts["parameters"]:
        details = [(p["name"], p["type"], str(p["default"]), p["doc"]) for p in facts["parameters"]]
        screen.table(("parameter", "type", "default", "meaning"), details)


def describe(entry: "Entry") -> dict[str, Any]:
    """The facts that `show` prints; a recipe's players are counted on the default data set."""
    from gancore.about import paper, text
    from gancore.arguments import explain, spell

    parameters = entry.parameters()
    docs = explain(parameters, inspect.getdoc(entry.function))
    return {
        "id": entry.id,
        "kind": entry.kind,
        "family": entry.family,
        "title": entry.title,
        "paper": paper(entry.title),
        "doc": text(entry),
        **(_players(entry) if entry.kind == "recipe" else {"data": "", "players": {}}),
        "parameters": [
            {
                "name": name,
                "type": spell(p.annotation),
                "default": None if p.default is p.empty else p.default if isinstance(p.default, int | float) else str(p.default),
                "doc": docs.get(name, ""),
            }
            for name, p in parameters.items()
        ],
    }


def _players(entry: "Entry") -> dict[str, Any]:
    """The players on the default data set, or on the first of others that the recipe suits; none where it suits none of them."""
    from gancore import data
    from gancore.core import DataError, Options, UsageError
    from gancore.runs import specify

    for name in dict.fromkeys((Options().data, *_SETS)):
        dataset = data.load(name)
        try:
            nets = entry.function().nets(specify(dataset, Options(data=name)))
        except (UsageError, DataError):
            continue
        return {"data": dataset.name, "players": {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}}
    return {"data": "", "players": {}}


COMMANDS = (list_, show)
