"""A named range around every operator call, for profilers. Off, it costs one comparison."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch.overrides import handle_torch_function, has_torch_function

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
Around = Callable[[str], AbstractContextManager[None]]

_on = False
_around: Around = lambda name: nullcontext()


def profile_ranges(on: bool = True, around: Around | None = None) -> None:
    """Switch the ranges of all operators on or off: NVTX on a CUDA build of PyTorch, `torch.profiler` records everywhere.

    They carry the operator's name with the prefix `gancore::`. Inside a compiled function there are none. around: a context of
    the caller's own for each range, given its name.
    """
    global _on, _around
    _on = bool(on)
    _around = around or (lambda name: nullcontext())


@contextmanager
def _range(name: str) -> Iterator[None]:
    nvtx = torch.cuda.is_initialized()
    if nvtx:
        torch.cuda.nvtx.range_push(name)
    try:
        with torch.profiler.record_function(name), _around(name):
            yield
    finally:
        if nvtx:
            torch.cuda.nvtx.range_pop()


def ranged(fn: Callable[P, R]) -> Callable[P, R]:
    """Wrap a public operator so that its calls show up as ranges once `profile_ranges()` was called.

    Function modes, and classes of tensors with functions of their own, see it as one function, as they see PyTorch's.
    """
    name = f"gancore::{fn.__name__}"

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return fn(*args, **kwargs)
        if has_torch_function(args):
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            found: R = handle_torch_function(call, tensors, *args, **kwargs)
            return found
        if not _on:
            return fn(*args, **kwargs)
        with _range(name):
            return fn(*args, **kwargs)

    return call


def spanned(fn: F) -> F:
    """The range alone, for a function made of operators: function modes see those."""
    name = f"gancore::{fn.__name__}"

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _on or torch.compiler.is_compiling():
            return fn(*args, **kwargs)
        with _range(name):
            return fn(*args, **kwargs)

    return cast(F, call)
