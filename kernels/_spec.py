"""The row of an operator from which the common tests and benchmarks find it, and the discovery of all rows."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Sample:
    """One call: `draw` gives its float64 tensors, away from kinks, and `options` its other arguments."""

    name: str
    draw: Callable[[Generator], dict[str, Tensor]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bad:
    """A call that must be refused: these arguments over those of the first sample, the error, and words of its message."""

    change: Mapping[str, Any]
    error: type[Exception]
    words: str


@dataclass(frozen=True)
class Bench:
    """One row of the dispatch table: the class that `choose` is given for calls like this one."""

    shape_class: str
    draw: Callable[[Generator], dict[str, Tensor]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ahead:
    """A kernel to compile ahead of time, and the most registers a thread and bytes of shared memory it may take. It may never
    spill.

    signature: types as Triton names them, with ":16" for multiples of 16. instead: constants of one target that differ.
    tensor_core: an instruction that sm_90's code must have.
    """

    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int = 4
    stages: int = 3
    registers: int = 128
    shared: int = 0
    instead: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tensor_core: str = ""


@dataclass(frozen=True)
class Spec:
    """What tests and benchmarks know about an operator.

    `fn(**tensors, **options, impl=...)` is the public function and `reference(**tensors, **options)` the same in plain PyTorch,
    of any order. `dtypes` lists what each kernel takes. `grad_order` is the highest derivative that the kernels offer in every
    sample. `batched` names the tensors whose first dimension is the batch, which is also where memory layouts are varied.
    `neighbour` changes the options to those of a similar operator, which the tests must tell apart. `bytes_moved` is the least
    a forward call reads and writes. `fusible`: under torch.compile "auto" leaves the operator to the compiler.
    `library`: the native kernel calls PyTorch's matrix product, whose bits depend on the number of threads. `mixes`: a row of the
    result depends on other rows of the batch. `on_cpu`: the body that "auto" takes on a CPU of which nothing is measured.
    `derivatives`: there it takes kernels only where a derivative may be asked for.
    """

    name: str
    fn: Callable[..., Any]
    reference: Callable[..., Any]
    samples: tuple[Sample, ...]
    dtypes: Mapping[str, tuple[torch.dtype, ...]]
    bytes_moved: Callable[..., int]
    neighbour: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    grad_order: int = 2
    batched: tuple[str, ...] = ("x",)
    weight_op: str | None = None
    fusible: bool = False
    library: bool = False
    mixes: bool = False
    on_cpu: str = "reference"
    derivatives: bool = False
    bad: tuple[Bad, ...] = ()
    bench: tuple[Bench, ...] = ()
    ahead: Callable[[], tuple[Ahead, ...]] = tuple


def modules() -> Iterator[ModuleType]:
    """Every operator module of the package, imported, in alphabetical order."""
    package = importlib.import_module("gancore.kernels")
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if not info.name.startswith("_"):
            yield importlib.import_module(f"gancore.kernels.{info.name}")


def specs() -> dict[str, Spec]:
    """All operators by name. A module states one `SPEC`, or several as `SPECS`."""
    found: dict[str, Spec] = {}
    for module in modules():
        for spec in getattr(module, "SPECS", (module.SPEC,) if hasattr(module, "SPEC") else ()):
            found[spec.name] = spec
    return found
