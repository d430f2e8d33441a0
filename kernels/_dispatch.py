"""Which body of an operator runs: Triton, native or the reference."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gancore.kernels import _native, _triton
from gancore.kernels._spec import Spec

IMPLS = ("auto", "triton", "native", "reference")
TABLE = Path(__file__).with_name("_dispatch.json")


# Read here, not at a first use: that may be inside torch.compile, which traces into the reading.
_ROWS: dict[str, str] = json.loads(TABLE.read_text()) if TABLE.is_file() else {}


def table() -> dict[str, str]:
    """The measured choices shipped with the package: "operator/device/dtype/shape class" -> body (see
    benchmarks/dispatch.py)."""
    return _ROWS


def size_class(numel: int) -> str:
    """The class of a tensor's size in the table: what fits the first cache, the second, the last, or none."""
    for name, bound in (("tiny", 1 << 12), ("small", 1 << 16), ("medium", 1 << 20)):
        if numel < bound:
            return name
    return "large"


def key(spec: Spec, x: Tensor, shape_class: str) -> str:
    """The row of the table for an input. Devices are "cpu", or "cuda" with the GPU's name."""
    device = x.device.type
    if device == "cuda":
        device = f"cuda:{torch.cuda.get_device_name(x.device)}"
    return f"{spec.name}/{device}/{str(x.dtype).removeprefix('torch.')}/{shape_class}"


def missing(spec: Spec, impl: str, x: Tensor) -> str | None:
    """Why body `impl` cannot run for an input like x; None if it can."""
    if impl == "reference":
        return None
    dtypes = spec.dtypes.get(impl)
    if dtypes is None:
        return f"there is no {impl} kernel"
    if x.dtype not in dtypes:
        return f"the {impl} kernel takes {', '.join(map(str, dtypes))}, not {x.dtype}"
    return _triton.missing(x.device) if impl == "triton" else _native.missing(x.device)


def choose(spec: Spec, impl: str, x: Tensor, shape_class: str | Callable[[], str]) -> str:
    """The body to run: "triton", "native" or "reference".

    An explicit choice is returned or refused: ValueError for an unknown name, RuntimeError naming what is missing. "auto"
    follows the measured table; where that is silent, a GPU gets Triton and a CPU `spec.on_cpu`. `shape_class` may be a function,
    which an explicit choice does not call: under torch.compile the comparisons in it specialise the graph. Inside `torch.compile`
    an operator whose reference the compiler fuses with its neighbours (`spec.fusible`) leaves itself to the compiler, and under
    `torch.func` transforms, which registered operators do not pass, every operator runs its reference.
    """
    if impl not in IMPLS:
        raise ValueError(f"{spec.name}: impl got {impl!r}, wants one of {', '.join(map(repr, IMPLS))}")
    if impl != "auto":
        reason = missing(spec, impl, x)
        if reason is not None:
            raise RuntimeError(f"{spec.name}: impl={impl!r} cannot run here: {reason}")
        return impl
    if torch.compiler.is_compiling():
        if spec.fusible:
            return "reference"
    elif torch._C._are_functorch_transforms_active():
        return "reference"
    shape_class = shape_class if isinstance(shape_class, str) else shape_class()
    # In Triton's interpreter kernels run to be tested, thousands of times slower.
    wanted = table().get(key(spec, x, shape_class), "triton" if x.device.type == "cuda" else spec.on_cpu)
    return wanted if missing(spec, wanted, x) is None else "reference"
