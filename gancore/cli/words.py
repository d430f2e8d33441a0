"""Options whose names are known only once the recipe is: from words of the command line to names and values."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import click

_YES_NO = {"yes", "no", "true", "false"}


class Raw(click.Command):
    """A command that reads its words itself: its function takes `words`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave every word, `--help` too, to the function."""
        ctx.params["words"] = tuple(args)
        return []


def read(words: Sequence[str], kinds: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Positional words, and values by option name: `--name value`, `--name=value`, or `--name` alone for yes.

    kinds: the type of each option that may occur; dashes and underscores are one. An unknown option keeps its text as a value,
    for `gancore.arguments.split` to refuse with the nearest names. Raises UsageError.
    """
    from gancore.arguments import parse
    from gancore.core import UsageError

    plain: list[str] = []
    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        if not word.startswith("--"):
            raise UsageError(f"unknown option {word}: options have two dashes and a name in full")
        name, given, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if not given:
            text = _value(name, kinds.get(name), rest)
        values[name] = parse(name, text, kinds[name]) if name in kinds else text
    return plain, values


def _value(name: str, kind: Any, rest: list[str]) -> str:
    from gancore.core import UsageError

    follows = bool(rest) and not rest[0].startswith("--")
    if kind is bool:
        return rest.pop(0) if follows and rest[0].lower() in _YES_NO else "yes"
    if follows:
        return rest.pop(0)
    if kind is None:
        return ""
    raise UsageError(f"option --{name.replace('_', '-')} needs a value")


def loop_options() -> dict[str, Any]:
    """Types of the options of the loop by name."""
    from gancore.core import Options

    hints = typing.get_type_hints(Options)
    return {name: hints[name] for name in Options.names()}


def help_lines(kinds: Mapping[str, Any], defaults: Mapping[str, Any], docs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Rows of a help text: the option with its type, and its meaning with its default."""
    from gancore.arguments import spell

    rows = []
    for name, kind in kinds.items():
        flag = f"--{name.replace('_', '-')}"
        shown = "" if defaults[name] == "" or defaults[name] is False else f" [{defaults[name]}]"
        rows.append((flag if kind is bool else f"{flag} <{spell(kind)}>", f"{docs.get(name, '')}{shown}".strip()))
    return rows
