"""Data: toy sets by name with judges of their samples, and files, all validated before training starts.

`load("ring8")`, `load("digits", size=16)`, `load("moons:35")`, `load("data/mnist")`; `oracle("ring8")`. Nothing is imported or
generated before it is asked for.
"""

import difflib
import inspect
import math
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from gancore.data.dataset import DataError, Dataset

__all__ = ["DataError", "Dataset", "environment", "load", "names", "oracle"]

_TOY = {  # set -> module of gancore.data.toy
    "ring8": "gaussians",
    "grid25": "gaussians",
    "gauss1d": "points",
    "bimodal1d": "points",
    "lines": "points",
    "moons": "points",
    "shapes16": "shapes",
    "bars16": "shapes",
    "pairs16": "shapes",
    "faces16": "faces",
    "digits": "digits",
    "digits8": "digits",
    "digits16": "digits",
    "digits32": "digits",
    "vox8": "voxels",
    "vox16": "voxels",
    "clips16": "clips",
    "tok12": "tokens",
    "tones64": "tones",
    "calo8": "calorimeter",
}


def names() -> list[str]:
    """Names of the toy sets. `digits` is the default size of the handwritten digits."""
    return sorted(_TOY)


def load(name: str, *, size: int | None = None) -> Dataset:
    """The toy set `name`, or the files at the path `name`, whose format is detected.

    A toy set's parameter follows a colon: "moons:35". `size` is the side of square images: 8, 16 or 32 for "digits", any for an
    image folder. Raises DataError, in one line, for an unknown name or data that cannot be used.
    """
    base, argument = _split(name)
    if base is not None:
        dataset: Dataset = _call(base, base, argument, size)
        if size is not None and size != dataset.shape[-1]:
            raise DataError(f"{name}: its samples are {dataset.shape}, it has no size {size}")
        return dataset
    if os.path.exists(name):
        return import_module("gancore.data.formats").read(Path(name), size)
    raise DataError(f"{name}: {_missing(name)}")


def oracle(name: str) -> Any:
    """The judge of the toy set `name`; its methods depend on the set, see the function `<name>_oracle` in `gancore.data.toy`.

    Raises DataError where there is no such set or the set has no judge.
    """
    base, argument = _split(name)
    if base is None:
        raise DataError(f"{name}: {_missing(name)}")
    return _call(base, f"{base}_oracle", argument, None)


def environment(name: str) -> Any:
    """The control task "grid5", "lqr1" or "cart", see `gancore.data.toy.environments`. Raises DataError for any other name."""
    found = import_module("gancore.data.toy.environments").ENVIRONMENTS
    if name not in found:
        raise DataError(f"{name}: no environment of this name, expected one of {', '.join(found)}")
    return found[name]()


def _split(name: str) -> tuple[str | None, str | None]:
    base, _, argument = name.partition(":")
    return (base, argument or None) if base in _TOY else (None, None)


def _call(base: str, attribute: str, argument: str | None, size: int | None) -> Any:
    function: Callable[..., Any] | None = getattr(import_module(f"gancore.data.toy.{_TOY[base]}"), attribute, None)
    if function is None:
        raise DataError(f"{base}: this set has no oracle")
    parameters = list(inspect.signature(function).parameters)
    if argument is None:
        return function(size) if size is not None and parameters == ["size"] else function()
    if not parameters or parameters == ["size"]:
        raise DataError(f"{base}:{argument}: {base} takes no parameter, expected '{base}'")
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{base}:{argument}: the parameter '{parameters[0]}' is not a finite number")
    return function(value)


def _missing(name: str) -> str:
    if os.sep in name or "/" in name or Path(name).suffix:
        return "no such file or folder"
    if name in import_module("gancore.data.toy.environments").ENVIRONMENTS:
        return f"a control task and no data set: gancore.data.environment({name!r}) gives it"
    near = difflib.get_close_matches(name.partition(":")[0], _TOY, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(names())}"
    return f"no data set or path of this name; {hint}"
