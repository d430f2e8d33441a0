"""From names and values, as a user gives them, to options of the loop and parameters of a recipe."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from gancore.core import Entry, Options, UsageError
from gancore.core.options import AUTO

_OPTION_TYPES = {field.name: typing.get_type_hints(Options)[field.name] for field in fields(Options)}


def split(entry: Entry, arguments: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Options of the loop, and the recipe's parameters with its defaults filled in.

    Raises UsageError for a name that is neither, with the nearest ones, and for a value of another type.
    """
    given = {k: v for k, v in arguments.items() if k in _OPTION_TYPES}
    options: dict[str, Any] = {k: AUTO if _auto(k, v) else _checked(k, v, _OPTION_TYPES[k]) for k, v in given.items()}
    parameters = bind(entry, {k: v for k, v in arguments.items() if k not in options}, besides=tuple(_OPTION_TYPES))
    return Options(**options), parameters


def bind(entry: Entry, arguments: Mapping[str, Any], besides: Sequence[str] = ()) -> dict[str, Any]:
    """The entry's parameters, its defaults filled in. `besides` are further names to suggest for an unknown one.

    Raises UsageError for an unknown name, with the nearest ones, and for a value that is missing or of another type.
    """
    parameters = entry.parameters()
    for name in arguments:
        if name not in parameters:
            near = difflib.get_close_matches(name, [*besides, *parameters], n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; {entry.id} takes {', '.join(parameters) or 'none'}"
            raise UsageError(f"unknown option {name!r}{hint}")
    for name, parameter in parameters.items():
        if name not in arguments and parameter.default is parameter.empty:
            raise UsageError(f"{entry.id} needs {name}, {spell(parameter.annotation)}")
    given = {k: _checked(k, v, parameters[k].annotation) for k, v in arguments.items()}
    return {name: given.get(name, p.default) for name, p in parameters.items()}


def parse(name: str, text: str, kind: Any) -> Any:
    """The value of type `kind` that `text` spells: numbers, yes / no, words, or comma-separated tuples. Raises UsageError."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if _auto(name, text):
        return AUTO
    try:
        if origin in (types.UnionType, typing.Union):
            if text.lower() == "none" and type(None) in inner:
                return None
            return parse(name, text, next(k for k in inner if k is not type(None)))
        if origin is tuple:
            return tuple(parse(name, part, inner[0]) for part in text.split(","))
        if origin is typing.Literal or kind is str:
            return text
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name} must be {spell(kind)}, got {text!r}") from error


def spell(kind: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", bool: "yes or no", str: "a word"}
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return words.get(kind, str(kind))


def explain(names: Iterable[str], text: str | None) -> dict[str, str]:
    """What a docstring says of each name, in the form "name: meaning." or "name, name: meaning."."""
    known = "|".join(map(re.escape, names))
    if not known or not text:
        return {}
    parts = re.split(rf"(?:^|\s)((?:{known})(?:, (?:{known}))*):\s", " ".join(text.split()))
    meanings = zip(parts[1::2], parts[2::2], strict=True)
    return {name: meaning.strip() for group, meaning in meanings for name in group.split(", ")}


def _auto(name: str, value: Any) -> bool:
    return name in ("batch_size", "micro_batch") and value == "auto"


def _checked(name: str, value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = kind in (int, float, bool, str)
    wrong_bool = isinstance(value, bool) and kind is not bool
    if plain and (not isinstance(value, kind) or wrong_bool):
        raise UsageError(f"{name} must be {spell(kind)}, got {value!r}")
    if typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
        raise UsageError(f"{name} must be {spell(kind)}, got {value!r}")
    return value
