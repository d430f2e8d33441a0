"""One registry for recipes, demonstrations and metrics: a decorator enters the function under its file's name."""

import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

ENTRIES: dict[str, "Entry"] = {}


@dataclass(frozen=True)
class Entry:
    """A registered function: its kind ("recipe", "demo" or "metric"), its id and itself."""

    id: str
    kind: str
    function: Callable[..., Any]

    @property
    def title(self) -> str:
        """First line of the module's docstring, which names the system and its paper."""
        text = inspect.getdoc(inspect.getmodule(self.function)) or inspect.getdoc(self.function) or self.id
        return text.splitlines()[0]

    @property
    def family(self) -> str:
        """The folder that holds it."""
        return self.function.__module__.split(".")[-2] if "." in self.function.__module__ else "own"

    @property
    def source(self) -> str:
        """Path of its file, where it is no part of gancore: what finds it again in another process. Else ""."""
        module = self.function.__module__
        if module == "__main__" or module.split(".")[0] == "gancore":
            return ""
        return os.path.abspath(inspect.getsourcefile(self.function) or "")

    def parameters(self) -> dict[str, inspect.Parameter]:
        """Its parameters by name, with annotations resolved to types."""
        hints = typing.get_type_hints(self.function)
        found = inspect.signature(self.function).parameters
        return {name: p.replace(annotation=hints.get(name, p.annotation)) for name, p in found.items()}


def _register(kind: str, function: F, id: str | None) -> F:
    name = id or function.__name__.replace("_", "-")
    present = ENTRIES.get(name)
    if present is not None and present.function.__module__ != function.__module__:
        raise ValueError(f"two functions are registered as {name!r}: in {present.function.__module__} and {function.__module__}")
    ENTRIES[name] = Entry(name, kind, function)
    return function


def _decorator(kind: str) -> Any:
    @overload
    def register(function: F) -> F: ...
    @overload
    def register(*, id: str) -> Callable[[F], F]: ...
    def register(function: Any = None, *, id: str | None = None) -> Any:
        if function is None:
            return lambda f: _register(kind, f, id)
        return _register(kind, function, id)

    return register


recipe = _decorator("recipe")
recipe.__doc__ = "Register a function that returns a Recipe. Its id is its name in kebab-case, unless `id=` says otherwise."
demo = _decorator("demo")
demo.__doc__ = "Register a function that returns dict[str, float], and may draw a figure."
metric = _decorator("metric")
metric.__doc__ = "Register a score of samples against data."
