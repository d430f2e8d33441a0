"""All benchmarks by name, and what has to be there before one runs."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import torch

from gancore.benchmarks import files, timing
from gancore.core import UsageError

BENCHMARKS = {
    "mmd": "MMD losses, KID and minibatch discrimination against compiled PyTorch, KeOps and torch-fidelity",
    "conv": "transposed convolutions with norm and activation, and the critic's, against eager and compiled PyTorch",
    "critic": "a critic's update under gradient penalties against eager and compiled PyTorch",
    "operators": "every operator and the steps of recipes against eager and compiled PyTorch, and against the machine",
    "batch": "throughput of recipes' training steps over the batch size",
    "loop": "the training loop against the same step written by hand",
    "tune": "the tiles of Triton kernels, on a GPU: the table that launches follow",
    "dispatch": 'the bodies of every operator: the table that impl="auto" follows',
}

# The benchmarks that an option acts on; elsewhere it is refused, since ignored it would be taken for obeyed.
_SERVES = {
    "compare": ("mmd", "conv", "critic", "operators", "batch"),
    "device": ("mmd", "conv", "critic", "operators", "batch", "loop", "tune"),
    "all": ("operators",),
}

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Asked:
    """What a run was asked for: small shapes, the table alone, some rows only, another result file, an old one to hold it
    against (`old` is what it says), another device, every class of shapes rather than a few."""

    quick: bool = False
    table: bool = False
    rows: tuple[str, ...] = ()
    out: Path | None = None
    compare: Path | None = None
    device: str = "auto"
    every: bool = False
    old: dict[str, Any] | None = None


def require(names: Sequence[str], asked: Asked) -> None:
    """Raise UsageError for a name that is none, for an option that one of them has no use for, or if the native library is missing
    and something will be measured."""
    for name in names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(BENCHMARKS)}"
            raise UsageError(f"unknown benchmark {name!r}; {hint}")
    given = {"compare": asked.compare is not None, "device": asked.device != "auto", "all": asked.every}
    for option, name in product((o for o in given if given[o]), names):
        if name not in _SERVES[option]:
            raise UsageError(f"{name} has no use for --{option}, which serves {', '.join(_SERVES[option])}: leave it out")
    if ":" in asked.device:
        raise UsageError(f"--device takes auto, cpu or cuda, got {asked.device!r}: CUDA_VISIBLE_DEVICES chooses among several GPUs")
    if len(names) > 1 and (asked.out or asked.compare):
        raise UsageError(f"--{'out' if asked.out else 'compare'} names the result of one benchmark, got {', '.join(names)}")
    if asked.table:
        return
    from gancore.doctor import findings

    native = next(f for f in findings() if f.part == "native kernels")
    if not native.ok:
        raise UsageError(f"{native.found}, and figures without it would not be gancore's: {native.remedy.split('; ')[-1]}")


def run(name: str, asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Run one benchmark and write its files; headings and lines of its table."""
    threads = torch.get_num_threads()
    # Read now: a run may write over the file that it is held against.
    asked = replace(asked, old=files.load(name, asked.compare)) if asked.compare else asked
    try:
        with timing.on(asked.device):
            found: Table = import_module(f"gancore.benchmarks.{name}").bench(asked, say)
    finally:
        torch.set_num_threads(threads)
    return found


def everything() -> None:
    """Every benchmark in turn, as `make bench` runs them; tiles are tuned on request alone."""
    names = [name for name in BENCHMARKS if name != "tune"]
    require(names, Asked())
    for name in names:
        headings, lines = run(name, Asked())
        print(name, *("  ".join(line) for line in (headings, *lines)), sep="\n", flush=True)
