"""Peak memory of one call beyond what was there before it, in a fresh process.

On a GPU the allocator's own count, on Linux the growth of the process's resident memory; elsewhere none is known.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gancore.benchmarks import cases
from gancore.benchmarks.cases import Case, Refused
from gancore.benchmarks.timing import on_gpu

_STATUS = Path("/proc/self/status")
_SMALL = 128


def measured(case: Case, name: str, limit: float = 600.0, check: bool = False) -> dict[str, float] | None:
    """`mb` (10^6 bytes beyond the inputs, the result included) and `seconds` of one call; None if it failed or outran limit.

    check: also its errors, and Refused where they are too large.
    """
    found = child("gancore.benchmarks.peak", [json.dumps(asdict(case)), name, *(["check"] if check else [])], limit)
    return None if found is None else answer(found)


def child(module: str, words: list[str], limit: float = 600.0) -> dict[str, Any] | None:
    """What `python -m module words` prints in its last line; None if it failed or outran limit."""
    # The child has to find this gancore, and use as many threads.
    root = str(Path(cases.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root if (Path(root) / "gancore").is_dir() else "", os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment |= {} if on_gpu() else {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", module, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(found: dict[str, Any]) -> dict[str, float]:
    """What the child process found. Raises Refused where that is an error of the result."""
    if "refused" in found:
        raise Refused(found["refused"])
    return found


def measure(case: Case, name: str, check: bool = False) -> dict[str, float]:
    """The same in this process, which should have done nothing else."""
    # Libraries, thread pools and KeOps' formulas load at a first call: at a small one they cost no memory of this size.
    small = replace(case, n=min(case.n, _SMALL), size=min(case.size, _SMALL // 2), subsets=min(case.subsets, 2))
    cases.body(small, name)()
    run = cases.body(case, name)
    if name.endswith("-compiled"):
        run()
    before = level()
    start = time.perf_counter()
    kept = run()
    if on_gpu():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = highest() - before
    errors = cases.check(case, name, kept) if check else {}
    return {"mb": round(max(peak, 0) / 1e6, 2), "seconds": float(f"{seconds:.4g}"), **errors}


def known() -> bool:
    """Whether this machine tells a process its peak."""
    return on_gpu() or (_STATUS.exists() and "VmHWM" in _STATUS.read_text())


def level() -> int:
    """Bytes that this process has now, from which on `highest` counts."""
    if on_gpu():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # What freed blocks glibc holds back would hide that much of the peak.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def highest() -> int:
    """The most bytes that it had since `level` was last asked for."""
    return torch.cuda.max_memory_allocated() if on_gpu() else _resident("VmHWM")


def _resident(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def main(words: list[str]) -> dict[str, Any]:
    """What the child process prints."""
    try:
        return dict(measure(Case(**json.loads(words[0])), words[1], "check" in words[2:]))
    except Refused as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
