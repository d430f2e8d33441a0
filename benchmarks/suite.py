"""All benchmarks by name, and what has to be there before one runs."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

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

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Asked:
    """What a run was asked for: small shapes, the table alone, some rows only, another result file, an old one to hold it
    against, another device."""

    quick: bool = False
    table: bool = False
    rows: tuple[str, ...] = ()
    out: Path | None = None
    compare: Path | None = None
    device: str = "auto"


def require(names: Sequence[str], table: bool = False) -> None:
    """Raise UsageError for a name that is none, or if the native library is missing. table: nothing will be measured."""
    for name in names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(BENCHMARKS)}"
            raise UsageError(f"unknown benchmark {name!r}; {hint}")
    if table:
        return
    from gancore.doctor import findings

    native = next(f for f in findings() if f.part == "native kernels")
    if not native.ok:
        raise UsageError(f"{native.found}, and figures without it would not be gancore's: {native.remedy.split('; ')[-1]}")


def run(name: str, asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Run one benchmark and write its files; headings and lines of its table."""
    threads = torch.get_num_threads()
    try:
        found: Table = import_module(f"gancore.benchmarks.{name}").bench(asked, say)
    finally:
        torch.set_num_threads(threads)
    return found


def everything() -> None:
    """Every benchmark in turn, as `make bench` runs them; tiles are tuned on request alone."""
    names = [name for name in BENCHMARKS if name != "tune"]
    require(names)
    for name in names:
        headings, lines = run(name, Asked())
        print(name, *("  ".join(line) for line in (headings, *lines)), sep="\n", flush=True)
