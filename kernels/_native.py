"""Finds and loads the optional native extension, when an operator first asks for it."""

import functools
from importlib.util import find_spec
from typing import Any

import torch

HOW = (
    "build it with a C++17 compiler and torch installed: pip install --no-build-isolation gancore, or in a checkout "
    "pip install --no-build-isolation -e ."
)


@functools.cache
def _loaded() -> str | None:
    spec = find_spec("gancore._C")
    if spec is None or spec.origin is None:
        return f"the native extension gancore._C is not installed; {HOW}"
    try:
        torch.ops.load_library(spec.origin)
    except OSError as error:
        return f"the native extension {spec.origin} does not load ({error}); {HOW}"
    return None


def _load() -> str | None:
    """Load the extension, once; the reason why it cannot be, or None."""
    return _loaded()


# What torch.compiler.assume_constant_result sets, without its import of the compiler, which takes seconds.
_load._dynamo_marked_constant = True  # type: ignore[attr-defined]


def missing(device: torch.device) -> str | None:
    """What stands in the way of a native kernel on this device; None if nothing does."""
    if device.type != "cpu":
        return f"native kernels take tensors on the CPU, not on {device.type!r}"
    return _load()


def op(name: str) -> Any:
    """The native operator `gancore::name`, which exists once `missing` has returned None."""
    return getattr(torch.ops.gancore, name)
