"""Every operator and the steps of recipes against eager and compiled PyTorch, with what this machine could do at best.

    gancore bench operators                    measure, print, write benchmarks/results/operators-<device>.json and its page
    gancore bench operators --all              every class of shapes; hours on a CPU
    gancore bench operators --quick            one class of shapes an operator, one of its works compiled; writes nothing
    gancore bench operators --row bias_act     these operators or recipes only; the file's others are kept
    gancore bench operators --compare OLD.json what got slower than there by more than the spread

Rows of operators come from the `bench` of their SPECs, those of recipes are training steps. At a point all bodies take turns in one
process: forward without a graph, forward with backward, and that with a second backward. A point where a body disagrees with the
float64 reference is refused before it is timed.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

import gancore
from gancore import environment, machine
from gancore.benchmarks import compare, files, least, page, peak, peers, steps, suite, timing
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.suite import Asked, Table
from gancore.core import UsageError
from gancore.kernels._spec import Bench, Spec, specs
from gancore.profiling.counts import Counts

LABELS = {
    "ours": "gancore", "eager": "eager", "last": "channels_last", "compiled": "torch.compile", "tuned": "max-autotune",
    "triton": "triton", "native": "native", "keops": "KeOps", "fidelity": "torch-fidelity", "ours-compiled": "gancore, compiled",
}  # fmt: skip
WORKS = ("forward", "backward", "double backward")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BOUNDS = {"float32": 1e-4, "bfloat16": 4e-2}
# The classes of shapes that are measured unless all are asked for, a quick run's first; of another operator all are.
SHOWN = {
    "batch_norm_act": ("relu/last/medium", "relu/last/large"),
    "bias_act": ("leaky_relu/medium", "leaky_relu/large"),
    "conv2d_bias_act": ("few/large", "images/medium"),
    "conv_transpose2d_bn_act": ("norm/images/medium", "norm/heavy/medium"),
    "gradient_norm_penalty": ("medium", "large"),
    "interpolate": ("medium", "large"),
    "kernel_dot": ("squared/many/medium", "squared/many/large"),
    "minibatch_discrimination": ("medium", "large"),
    "mmd2": ("squared/many/medium", "squared/many/large", "dot/many/large"),
}
_SECONDS, _QUICK_SECONDS = 0.3, 0.03
_ROUNDS, _QUICK_ROUNDS = (7, 60), (3, 8)
_MORE_LAUNCHES = 0.01  # seconds of a turn on a GPU, where one call is shorter than its launch


def names() -> list[str]:
    """All rows: the operators that state shapes, then the recipes."""
    return [*(name for name, spec in specs().items() if spec.bench), *steps.STEPS]


def measure(name: str, device: torch.device, asked: Asked, bounds: dict[str, float], say: Callable[[str], None]) -> dict[str, Any]:
    """The result of a row: a point for every chosen class of shapes, type and work; `classes_left_out` names the others."""
    points, others = [], list[str]()
    if name in steps.STEPS:
        found = steps.measure(name, device, asked.quick)
    else:
        spec = specs()[name]
        rows = chosen(spec, asked)
        others = list(dict.fromkeys(bench.shape_class for bench in spec.bench if bench not in rows))
        found = _operator(spec, rows, device, asked, bounds)
    for point in found:
        points.append(point)
        told = ", ".join(f"{LABELS[b]} {r['ms']:.4g} ms" for b, r in point.get("bodies", {}).items())
        say(f"{name}: {point['case']}: {told or 'refused: ' + point['refused']}")
    if others:
        say(f"{name}: left out, for --all: {', '.join(others)}")
    return {"row": name, "commit": environment.commit(), "machine": bounds, "points": points, "classes_left_out": others}


def chosen(spec: Spec, asked: Asked) -> list[Bench]:
    """The rows of the SPEC that this run measures."""
    if asked.every:
        return list(spec.bench)
    of_class = {bench.shape_class: bench for bench in spec.bench}  # of several rows of one class the last
    return [of_class[name] for name in SHOWN.get(spec.name, tuple(of_class))[: 1 if asked.quick else None]]


# -- operators ---------------------------------------------------------------------------------------------------------------


def _operator(
    spec: Spec, rows: Sequence[Bench], device: torch.device, asked: Asked, bounds: dict[str, float]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    dtypes = ("float32",) if asked.quick else DTYPES
    for bench, dtype in product(rows, dtypes):
        tensors = {n: t.to(device, DTYPES[dtype]) for n, t in bench.draw(Generator().manual_seed(0)).items()}
        for order, work in enumerate(WORKS[: 1 + min(2, spec.grad_order)]):
            shape = " x ".join(map(str, next(iter(tensors.values())).shape))
            case = f"{bench.shape_class}, {shape}, {dtype}, {work}"
            point = {"case": case, "class": bench.shape_class, "shape": shape, "work": work, "dtype": dtype}
            left_out: dict[str, str] = {}
            there = list(_bodies(spec, tensors, device, _uncompiled(device, asked, dtype, work), left_out))
            there += _packages(spec.name, bench, device, asked, (dtype, order), left_out)
            try:
                bodies = _timed(spec, bench, tensors, order, there, left_out, asked.quick)
            except Refused as error:
                yield {**point, "refused": str(error), "left_out": left_out}
                continue
            moved = least.moved(spec, tensors, bench.options, order)
            operations = _counts(spec, bench, tensors, order, bodies)
            shares = _shares(bodies, moved, operations, bounds)
            yield {**point, "least_bytes": moved, "operations": operations, "bodies": shares, "left_out": left_out}


def _uncompiled(device: torch.device, asked: Asked, dtype: str, work: str) -> str | None:
    """Why nothing is compiled at a point; None if it is. Compiling is most of a run."""
    if asked.quick and work != "backward":
        return "left out of a quick run"
    if device.type == "cpu" and dtype != "float32" and not asked.every:
        return "on a CPU only float32 is compiled, unless --all is given"
    return None


def _bodies(
    spec: Spec, tensors: dict[str, Tensor], device: torch.device, uncompiled: str | None, left_out: dict[str, str]
) -> Iterator[str]:  # fmt: skip
    from gancore.kernels import _dispatch

    first = next(iter(tensors.values()))
    yield "ours"
    yield "eager"
    if first.dim() in (4, 5):
        yield "last"
    for name in ("compiled", "tuned"):
        reason = peers.missing("x-compiled", device) or uncompiled
        if name == "tuned" and device.type != "cuda":
            reason = "max-autotune chooses among a GPU's kernels"
        if reason:
            left_out[name] = reason
        else:
            yield name
    for impl in ("triton", "native"):
        if (reason := _dispatch.missing(spec, impl, first)) is None:
            yield impl
        else:
            left_out[impl] = reason


def _packages(
    name: str, bench: Bench, device: torch.device, asked: Asked, point: tuple[str, int], left_out: dict[str, str]
) -> Iterator[str]:  # fmt: skip
    """Other packages that compute what the operator does."""
    for body in ("keops", "fidelity") if name in ("mmd2", "kernel_dot") else ():
        reason = peers.missing(body, device) or peers.unfit(body, name, bench.options["kernel"], *point)
        # KeOps compiles a formula of its own for each shape of point and derivative.
        if reason or (asked.quick and body == "keops"):
            left_out[body] = reason or "left out of a quick run"
        else:
            yield body


def _timed(
    spec: Spec, bench: Bench, tensors: dict[str, Tensor], order: int, there: Sequence[str], left_out: dict[str, str], quick: bool
) -> dict[str, dict[str, Any]]:  # fmt: skip
    wide = {n: t.double() for n, t in tensors.items()}
    wanted = call(spec.reference, wide, bench.options, order)()
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    bound = allowed(BOUNDS[dtype], worst(call(spec.reference, tensors, bench.options, order)(), wanted))
    torch.compiler.reset()

    def body(name: str) -> Callable[[], list[Tensor]]:
        options, given = dict(bench.options), {n: t.clone() for n, t in tensors.items()}
        if name in ("ours", "triton", "native"):
            return call(spec.fn, given, {**options, "impl": "auto" if name == "ours" else name}, order)
        if name == "last":
            layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
            given = {n: t.to(memory_format=layouts[t.dim()]) if t.dim() in layouts else t for n, t in given.items()}
        if name in ("compiled", "tuned"):
            mode = "max-autotune" if name == "tuned" else None
            return call(torch.compile(spec.reference, dynamic=False, mode=mode), given, options, order)
        if name in ("keops", "fidelity"):
            return call(peers.of_operator(name, spec.name), given, options, order)
        return call(spec.reference, given, options, order)

    def check(name: str, found: list[Tensor]) -> dict[str, float]:
        error = worst(found, wanted)
        # A compiled or laid-out peer that PyTorch computes otherwise is no reason to refuse ours.
        if not error <= bound and name in ("ours", "triton", "native"):
            raise Refused(f"{LABELS[name]}, {spec.name} {bench.shape_class}: error {error:.2g}, at most {bound:.2g}")
        return {"error": float(f"{error:.3g}")}

    repeats = (lambda seconds: max(1, round(_MORE_LAUNCHES / seconds))) if timing.on_gpu() else None
    seconds, rounds = (_QUICK_SECONDS, _QUICK_ROUNDS) if quick else (_SECONDS, _ROUNDS)
    found = timing.compare(there, body, check, seconds, left_out, rounds, repeats, fresh=True)
    for name in found if peak.known() else ():
        run = body(name)
        run()
        before = peak.level()
        kept = run()
        found[name]["mb"] = round(max(0, peak.highest() - before) / 1e6, 3)
        del kept
    return found


def call(function: Callable[..., Any], tensors: dict[str, Tensor], options: Any, order: int) -> Callable[[], list[Tensor]]:
    """Forward without a graph (order 0), with the gradients in all inputs (1), with those of their squares, in what comes from
    above too (2)."""
    if order == 0:

        def forward() -> list[Tensor]:
            with torch.no_grad():
                return _list(function(**tensors, **options))

        return forward
    leaves = {n: t.clone().requires_grad_(t.is_floating_point()) for n, t in tensors.items()}
    wrt = [t for t in leaves.values() if t.requires_grad]

    def backward() -> list[Tensor]:
        y = _list(function(**leaves, **options))[0]
        # Fixed weights, so that no body is helped by a gradient of ones.
        seed = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(y).view_as(y)
        seed.requires_grad_(order == 2)
        first = torch.autograd.grad(y, wrt, seed, create_graph=order == 2, allow_unused=True, materialize_grads=True)
        if order == 1:
            return list(first)
        squares = torch.stack([(g if g.dtype == torch.float64 else g.float()).square().sum() for g in first]).sum()
        return list(torch.autograd.grad(squares, [*wrt, seed], allow_unused=True, materialize_grads=True))

    return backward


def _list(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [t for t in found if isinstance(t, Tensor)]


def allowed(bound: float, plain: float) -> float:
    """The error that refuses a body: the bound, or twice that of plain PyTorch in the same type, at most ten times the bound.

    Long sums that cancel, as a bias's gradient is, lose digits in whatever body computes them.
    """
    return max(bound, min(2 * plain, 10 * bound)) if math.isfinite(plain) else bound


def worst(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative error of all tensors; infinite where one is missing, has another shape or holds what is not a number."""
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return math.inf
    errors = [_error(*pair) for pair in zip(found, wanted, strict=True)]
    # Which of two numbers max takes when one is NaN depends on their order.
    return max((error if math.isfinite(error) else math.inf for error in errors), default=0.0)


def _error(found: Tensor, wanted: Tensor) -> float:
    wanted = wanted.double()
    return float((found.double() - wanted).norm() / wanted.norm().clamp_min(1e-12))


def _counts(spec: Spec, bench: Bench, tensors: dict[str, Tensor], order: int, bodies: dict[str, dict[str, Any]]) -> float:
    """Operations of the work as plain PyTorch does it; to the bodies that no compiler rewrites, the bytes that their operators
    read and write."""
    found = {}
    for name in ("eager", *(n for n in ("ours", "triton", "native") if n in bodies)):
        impl = {} if name == "eager" else {"impl": "auto" if name == "ours" else name}
        run = call(spec.reference if name == "eager" else spec.fn, tensors, {**bench.options, **impl}, order)
        counts = Counts()
        with counts:
            run()
        found[name] = [sum(row[i] for row in counts.found.values()) for i in (1, 2)]
        if name in bodies:
            bodies[name]["bytes"] = found[name][0]
    return found["eager"][1]


def _shares(
    bodies: dict[str, dict[str, Any]], least: int, operations: float, bounds: dict[str, float]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """With the shares of the machine's copy bandwidth and matrix rate that a body reaches, counting the fewest bytes possible and
    the operations of plain PyTorch."""
    for row in bodies.values():
        seconds = row["ms"] / 1e3
        for key, amount in (("copy", least), ("rate", operations)):
            row[f"of_{key}"] = float(f"{amount / seconds / bounds[key]:.3g}")
    return bodies


# -- the table ---------------------------------------------------------------------------------------------------------------

HEADINGS = (
    "row", "gancore", "quartiles", "eager", "channels_last", "compiled", "max-autotune", "MB", "bytes", "of copy", "of rate",
)  # fmt: skip


def lines(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a terminal shows: a line a point; peers as milliseconds and times of gancore's."""
    found: list[tuple[str, ...]] = []
    for row in result["rows"]:
        for point in row["points"]:
            title = f"{row['row']}: {point['case']}"
            if "refused" in point:
                found.append((f"{title}: refused", *[""] * (len(HEADINGS) - 1)))
                continue
            ours = point["bodies"]["ours"]
            peers_ = [point["bodies"].get(name) for name in ("eager", "last", "compiled", "tuned")]
            cells = ["" if p is None else f"{p['ms']:.4g} ({p['ratio']:.3g}x)" for p in peers_]
            spread = " to ".join(f"{t:.4g}" for t in ours["quartiles"])
            shares = [f"{ours[key]:.0%}" if key in ours else "" for key in ("of_copy", "of_rate")]
            # Of the fewest possible; a result of before they were counted has none.
            moved = f"{ours['bytes'] / point['least_bytes']:.3g}x" if "bytes" in ours else ""
            found.append((title, f"{ours['ms']:.4g} ms", spread, *cells, f"{ours.get('mb', '')}", moved, *shares))
    return found


def absent(result: dict[str, Any]) -> list[str]:
    """Who is missing from some rows, and why."""
    reasons = {(LABELS[b], why) for row in result["rows"] for p in row["points"] for b, why in p.get("left_out", {}).items()}
    return [f"without {label} in some rows: {why}" for label, why in sorted(reasons)]


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, write the result and its page, and return the table. Raises GancoreError in the end if a point was refused."""
    if unknown := [name for name in asked.rows if name not in names()]:
        raise UsageError(f"operators has no row {unknown[0]!r}; there are {', '.join(names())}")
    device = environment.pick_device(asked.device)
    own = files.path_of("operators", device.type)
    path = asked.out or (None if asked.quick else own)
    if asked.table:
        result = files.load("operators", asked.out or own)
    else:
        bounds = machine.measure(device)
        head = lambda: {**files.about(device, ("pykeops", "torch-fidelity")), "machine": bounds, "quick": asked.quick}
        one = lambda name: measure(name, device, asked, bounds, say)
        result = files.measured("operators", path, names(), list(asked.rows or names()), one, head)
    if path:
        page.offered(result, path, say)
    for line in absent(result):
        say(line)
    compare.tell(asked.old, result, say)
    if not asked.table:
        files.refuse([p["refused"] for row in result["rows"] for p in row["points"] if "refused" in p])
    return HEADINGS, lines(result)


def main() -> None:
    """The same without the packages of the command line, for a machine that has PyTorch alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--all", dest="every", action="store_true")
    parser.add_argument("--row", dest="rows", action="append", default=[])
    for flag in ("--out", "--compare"):
        parser.add_argument(flag, type=Path)
    parser.add_argument("--device", default="auto")
    given = vars(parser.parse_args())
    asked = Asked(**{**given, "rows": tuple(given["rows"])})
    suite.require(("operators",), asked)
    if not asked.table:
        print(f"gancore {gancore.__version__} at {Path(gancore.__file__).resolve().parent}", flush=True)
    headings, found = suite.run("operators", asked)
    print(*("  ".join(line) for line in (headings, *found)), sep="\n")


if __name__ == "__main__":
    main()
