"""Recipes, one short file each: gancore/recipes/<family>/<name>.py. File, function and id are one name (dashes in the id)."""

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from pathlib import Path

from gancore.core import Entry, UsageError
from gancore.core.registry import ENTRIES

__all__ = ["get", "names"]

_COMMANDS = {"recipe": "gancore train", "demo": "gancore demo", "metric": "gancore evaluate"}


@cache
def _modules() -> list[str]:
    packages = [importlib.import_module(name) for name in (__name__, "gancore.metrics")]
    return [found.name for p in packages for found in pkgutil.walk_packages(p.__path__, p.__name__ + ".") if not found.ispkg]


@cache
def _discover() -> None:
    for module in _modules():
        importlib.import_module(module)


def _find(id: str) -> Entry | None:
    """The entry of an id. Its own file alone is imported where the file has its name, so that a run depends on no other recipe."""
    if id not in ENTRIES:
        for module in _modules():
            if module.rpartition(".")[2] == id.replace("-", "_"):
                importlib.import_module(module)
    if id not in ENTRIES:
        _discover()
    return ENTRIES.get(id)


def names(kind: str | None = None) -> list[str]:
    """Sorted ids of everything registered, or of one kind: "recipe", "demo" or "metric"."""
    _discover()
    return sorted(name for name, entry in ENTRIES.items() if kind in (None, entry.kind))


def get(name: str, kind: str | None = None) -> Entry:
    """The entry of an id, or of a path to a Python file that registers one.

    Raises UsageError, with the nearest ids, for an unknown name, and with the right command for one of another kind.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    entry = _find(name.replace("_", "-"))
    if entry is None:
        near = difflib.get_close_matches(name, names(kind), n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `gancore list` shows them all"
        raise UsageError(f"unknown {kind or 'name'} {name!r}{hint}")
    if kind not in (None, entry.kind):
        raise UsageError(f"{entry.id!r} is a {entry.kind}, not a {kind}: use `{_COMMANDS[entry.kind]}`")
    return entry


def _from_file(path: Path) -> Entry:
    name = f"own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"there is no recipe file {path}")
    _discover()
    for id in [id for id, entry in ENTRIES.items() if entry.function.__module__ == name]:
        del ENTRIES[id]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, ValueError) as error:
        raise UsageError(f"{path} does not load: {error}") from error
    for entry in ENTRIES.values():
        if entry.function.__module__ == name:
            return entry
    raise UsageError(f"{path} registers no recipe: decorate its function with @recipe from gancore.core")
