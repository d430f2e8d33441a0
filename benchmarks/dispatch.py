"""Which body of each operator is fastest: the measurements behind kernels/_dispatch.json, the table that impl="auto" follows.

    python -m benchmarks.dispatch            measure this machine, write benchmarks/results/dispatch-<device>.json and the table
    python -m benchmarks.dispatch --table    write the table again from the committed results

For each `bench` row of each SPEC, data type and body, forward alone and forward plus backward are timed, bodies alternating,
median of many. A kernel enters the table where both together take it at most MARGIN of what PyTorch's eager reference takes, and
neither takes it longer than WAVER allows, which is what such a median of bodies that do the same wavers by. Of an operator
whose kernels "auto" takes for derivatives alone (`derivatives`) forward plus backward decides.
"""

import argparse
import functools
import json
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Generator, Tensor

from gancore.benchmarks import timing
from gancore.benchmarks.suite import Asked, Table
from gancore.core import UsageError
from gancore.kernels import _dispatch
from gancore.kernels._spec import Bench, Spec, specs

RESULTS = Path(__file__).resolve().parent / "results"
MARGIN = 0.97
WAVER = 1.06
SECONDS = 0.15
DTYPES = (torch.float32, torch.bfloat16)


def results() -> list[dict[str, Any]]:
    """All committed measurements of bodies, one row a key and body."""
    return [row for path in sorted(RESULTS.glob("dispatch-*.json")) for row in json.loads(path.read_text())["rows"]]


def choices(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The fastest body of each key; the reference unless another is faster in all, and not slower in any measurement."""
    found = {}
    for row in rows:
        times = row["seconds"]
        last = specs()[row["key"].split("/")[0]].derivatives
        times = {body: t[-1:] if last else t for body, t in times.items()}
        plain = times["reference"]
        better = {
            body: sum(t)
            for body, t in times.items()
            if sum(t) <= MARGIN * sum(plain) and all(a <= WAVER * b for a, b in zip(t, plain, strict=True))
        }
        found[row["key"]] = min(better, key=better.__getitem__, default="reference")
    return dict(sorted(found.items()))


def calls(spec: Spec, bench: Bench, tensors: dict[str, Tensor], impl: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward without a graph, and forward plus backward in all inputs."""
    leaves = {n: t.clone().requires_grad_() for n, t in tensors.items()}
    seed: list[Tensor] = []

    def forward() -> Any:
        with torch.no_grad():
            return spec.fn(**tensors, **bench.options, impl=impl)

    def training() -> Any:
        y = spec.fn(**leaves, **bench.options, impl=impl)
        y = y if isinstance(y, Tensor) else y[0]
        if not seed:
            seed.append(torch.randn_like(y))
        return torch.autograd.grad(y, list(leaves.values()), seed[0])

    return forward, training


def clock(bodies: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median seconds a call, the bodies taking turns for about `seconds` in all."""
    sync = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for body in bodies.values():
        body(), body()
    times: dict[str, list[float]] = {name: [] for name in bodies}
    end = time.perf_counter() + seconds
    while len(times[next(iter(times))]) < 7 or time.perf_counter() < end:
        for name, body in bodies.items():
            sync()
            start = time.perf_counter()
            body()
            sync()
            times[name].append(time.perf_counter() - start)
    return {name: median(t) for name, t in times.items()}


def measure(spec: Spec, bench: Bench, dtype: torch.dtype, device: str, seconds: float) -> dict[str, Any]:
    tensors = {n: t.to(device, dtype) for n, t in bench.draw(Generator().manual_seed(0)).items()}
    first = next(iter(tensors.values()))
    bodies = [b for b in ("reference", *spec.dtypes) if _dispatch.missing(spec, b, first) is None]
    pairs = {body: calls(spec, bench, tensors, body) for body in bodies}
    both = [clock({body: pair[i] for body, pair in pairs.items()}, seconds) for i in (0, 1)]
    return {
        "key": _dispatch.key(spec, first, bench.shape_class),
        "shapes": {n: list(t.shape) for n, t in tensors.items()},
        "seconds": {body: [round(t[body], 9) for t in both] for body in bodies},
    }


@functools.cache
def environment() -> dict[str, Any]:
    """Device, versions and commit, as every result states them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    root = Path(__file__).resolve().parent.parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": device,
        "cpu": cpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
    }


def write_table() -> None:
    _dispatch.TABLE.write_text(json.dumps(choices(results()), indent=0) + "\n")


def measure_all(names: Sequence[str], seconds: float, threads: int, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Rows of these operators, `seconds` for each measurement."""
    torch.set_num_threads(threads)
    timing.settle()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for spec in [spec for name, spec in specs().items() if name in names]:
        for bench, dtype in product(spec.bench, DTYPES):
            rows.append({**measure(spec, bench, dtype, device, seconds), **environment()})
            times = (f"{b} {t[0] * 1e6:.0f} / {t[1] * 1e6:.0f} us" for b, t in rows[-1]["seconds"].items())
            say(f"{rows[-1]['key']} {', '.join(times)}")
    return rows


def write(rows: list[dict[str, Any]], keep: Sequence[str] = ()) -> None:
    """Write this device's results and the table. keep: operators whose rows stay as the file has them."""
    path = RESULTS / f"dispatch-{environment()['device'].replace(' ', '-')}.json"
    old = json.loads(path.read_text())["rows"] if keep and path.exists() else []
    kept = [row for row in old if row["key"].split("/")[0] in keep]
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"rows": [*kept, *rows]}, indent=1) + "\n")
    write_table()


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """What `python -m benchmarks.dispatch` does: rows are operators, a quick run writes nothing."""
    if unknown := [name for name in asked.rows if name not in specs()]:
        raise UsageError(f"there is no operator {unknown[0]!r}; there are {', '.join(specs())}")
    if asked.out:
        raise UsageError("dispatch writes the table that gancore follows, nowhere else: leave --out out")
    if asked.table:
        write_table()
    else:
        rows = measure_all(asked.rows or list(specs()), 0.02 if asked.quick else SECONDS, 1, say)
        if not asked.quick:
            write(rows, [name for name in specs() if asked.rows and name not in asked.rows])
    return ("key", "fastest"), list(choices(rows if asked.quick and not asked.table else results()).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only write the table from the committed results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for each measurement")
    parser.add_argument("--only", nargs="+", choices=sorted(specs()), help="measure these operators, keep the others' rows")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.table:
        write_table()
        return
    names = [name for name in specs() if options.only is None or name in options.only]
    rows = measure_all(names, options.seconds, options.threads, functools.partial(print, flush=True))
    write(rows, [name for name in specs() if name not in names])


if __name__ == "__main__":
    main()
