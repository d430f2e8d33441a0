"""Which tiles of Triton kernels are fastest on this GPU: the measurements behind kernels/_tiles.json, which every launch follows.

    gancore bench tune                      measure, print, and write the table of the package, other devices' entries kept
    gancore bench tune --row conv           kernels of this name, or that begin so; the device's other entries are kept
    gancore bench tune --out tiles.json     write there, what the package has included
    gancore bench tune --table              what the table has
    python -m gancore.benchmarks.tune --adopt tiles.json    put the devices of such a file into the table of the package

The work is that of the SPECs' `bench`, and of the layers of a DCGAN. Each call tells which tiles it looks up; of each that no call
before it settled all candidates run against the float64 reference, and those that are right take turns with the heuristic's tile,
as CUDA graphs where they can be captured. A tile is stored where it takes at most MARGIN of the heuristic's time and three rounds
in four were faster; for the others the heuristic serves.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from gancore import environment
from gancore.benchmarks import conv_cases, files, operators, suite, timing
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.suite import Asked, Table
from gancore.core import DataError, UsageError
from gancore.kernels import _tiles
from gancore.kernels._spec import Bench, Spec, specs
from gancore.kernels._tiles import Tile

MARGIN = 0.97
HEADINGS = ("entry", "heuristic", "fastest", "ms", "ratio", "tried", "refused")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SECONDS, _ROUNDS = 0.05, (7, 30)  # of a candidate
_TURN = 0.002  # seconds of one turn: some calls of a short kernel
_FIRST = ("conv", "kernel", "mmd")  # products have the most to gain
_BATCH = 128

Timer = Callable[..., dict[str, dict[str, Any]]]  # as timing.compare


class Found(NamedTuple):
    """What was measured of one entry. tile: the fastest, None where the heuristic serves. ratio, ms: of the fastest candidate,
    to the heuristic's, whose ms is `usual_ms`; 1 and its own without candidates. refused: why, by the candidate."""

    key: str
    case: str
    usual: Tile
    tile: Tile | None
    best: str
    ratio: float
    ms: float
    usual_ms: float
    tried: int
    refused: dict[str, str]


class Job:
    """One call to tune by: an operator's Triton body at one class of shapes, forward or with derivatives up to the order."""

    def __init__(self, spec: Spec, bench: Bench, dtype: str, order: int, device: torch.device) -> None:
        self.spec, self.bench, self.dtype, self.order = spec, bench, dtype, order
        drawn = bench.draw(Generator().manual_seed(0))
        self.tensors = {name: t.to(device, _DTYPES[dtype]) for name, t in drawn.items()}
        shape = " x ".join(map(str, next(iter(self.tensors.values())).shape))
        self.case = f"{spec.name} {shape}, {dtype}, {operators.WORKS[order]}"

    def body(self) -> Callable[[], list[Tensor]]:
        """A call with inputs of its own."""
        given = {name: t.clone() for name, t in self.tensors.items()}
        return operators.call(self.spec.fn, given, {**self.bench.options, "impl": "triton"}, self.order)

    @cached_property
    def wanted(self) -> tuple[list[Tensor], float]:
        """What the call has to give, in float64, and the error that refuses a tile."""
        double = {name: t.double() for name, t in self.tensors.items()}
        wanted = operators.call(self.spec.reference, double, self.bench.options, self.order)()
        plain = operators.call(self.spec.reference, self.tensors, self.bench.options, self.order)()
        return wanted, operators.allowed(operators.BOUNDS[self.dtype], operators.worst(plain, wanted))

    def check(self, name: str, found: list[Tensor]) -> dict[str, float]:
        """Raises Refused for a result that is off."""
        wanted, bound = self.wanted
        error = operators.worst(found, wanted)
        if not error <= bound:
            raise Refused(f"{self.case}: {name}: error {error:.2g}, at most {bound:.2g}")
        return {}


# -- the work ----------------------------------------------------------------------------------------------------------------


def layers() -> Iterator[tuple[Spec, Bench]]:
    """The convolutions of a DCGAN at 64 x 64, generator and critic."""
    for work, name in (("layer", "conv_transpose2d_bn_act"), ("critic", "conv2d_bias_act")):
        for size in conv_cases.sizes(conv_cases.Case(work)):
            yield specs()[name], _layer(size, work == "critic")


def _layer(size: conv_cases.Size, critic: bool) -> Bench:
    inputs, outputs, side = size
    last = not critic and outputs == 3
    options: dict[str, Any] = {"stride": 1, "padding": 0} if side == 1 else {"stride": 2, "padding": 1}
    options["act"] = "leaky_relu" if critic else "tanh" if last else "relu"
    if not critic and not last:
        options["training"] = True

    def draw(generator: Generator) -> dict[str, Tensor]:
        x = torch.randn(_BATCH, inputs, side, side, generator=generator)
        shape = (outputs, inputs) if critic else (inputs, outputs)
        weight = torch.randn(*shape, 4, 4, generator=generator) / 50
        tensors = {"x": x.to(memory_format=torch.channels_last), "weight": weight.to(memory_format=torch.channels_last)}
        if critic:
            return {**tensors, "bias": torch.zeros(outputs)}
        return tensors if last else {**tensors, "bn_weight": torch.ones(outputs), "bn_bias": torch.zeros(outputs)}

    return Bench("", draw, options)


def work(quick: bool = False) -> Iterator[tuple[Spec, Bench]]:
    """All shapes to tune for, those of products first."""
    if not quick:
        yield from layers()
    ordered = sorted(specs().values(), key=lambda spec: not spec.name.startswith(_FIRST))
    for spec in (spec for spec in ordered if "triton" in spec.dtypes and spec.bench):
        # Activations of one shape look up the same; the last is a smooth one, which has a second derivative.
        by_shape = {_shapes(bench): bench for bench in spec.bench}
        yield from ((spec, bench) for bench in (list(by_shape.values())[:1] if quick else by_shape.values()))


def _shapes(bench: Bench) -> tuple[Any, ...]:
    return tuple((t.shape, t.stride()) for t in bench.draw(Generator().manual_seed(0)).values())


def tune(
    jobs: Iterable[tuple[Spec, Bench]], device: torch.device, wrong: list[str], rows: Sequence[str] = (),
    dtypes: Sequence[str] = tuple(_DTYPES), timer: Timer = timing.compare, say: Callable[[str], None] = print,
) -> Iterator[Found]:  # fmt: skip
    """Measures what these calls look up, each entry once. rows: how names of kernels begin. Nothing of the table is used.

    wrong: takes what is said of heuristics' tiles that disagree with the reference; their entries are not tuned.
    """
    name = _tiles.device_of(device)
    settled: set[str] = set()
    for spec, bench in jobs:
        for dtype, order in ((d, o) for d in dtypes for o in range(1 + min(2, spec.grad_order))):
            job = Job(spec, bench, dtype, order, device)
            with _tiles.using(name, {}), _tiles.asked() as asked:
                job.body()()
            for key, entry in asked.items():
                if key in settled or not entry.kernel.name.startswith(tuple(rows or [""])):
                    continue
                settled.add(key)
                try:
                    found = measure(job, key, entry, name, timer)
                except Refused as error:
                    say(f"{key}: not tuned: {error}")
                    wrong.append(str(error))
                    continue
                for tile, reason in found.refused.items():
                    say(f"{key}: refused {tile}: {reason}")
                said = "the heuristic serves" if found.tile is None else f"{found.best}, {found.ratio:.3g} of the heuristic's time"
                say(f"{key}: {said}")
                yield found


def measure(job: Job, key: str, entry: _tiles.Asked, device: str, timer: Timer = timing.compare) -> Found:
    """The fastest tile of one entry, by a call that looks it up."""
    usual = entry.usual
    tiles = {words(t): t for t in entry.kernel.candidates(_tiles.BYTES[key.split('/')[1]]) if t != usual}

    def body(name: str) -> Callable[[], list[Tensor]]:
        run, stored = job.body(), {key: tiles[name]} if name in tiles else {}

        def call() -> list[Tensor]:
            with _tiles.using(device, stored):
                return run()

        return call

    job.check("the heuristic's tile", body("ours")())
    refused = {name: reason for name in tiles if (reason := _wrong(job, name, body))}
    sound = [name for name in tiles if name not in refused]
    repeats = lambda seconds: max(1, round(_TURN / seconds))
    times = timer(("ours", *sound), body, job.check, _SECONDS, refused, _ROUNDS, repeats, fresh=True)
    ours = times["ours"].get("graph", times["ours"])
    # Replays are compared with replays: without launches, what is left is the kernel.
    compared = {name: row.get("graph") if "graph" in times["ours"] else row for name, row in times.items() if name != "ours"}
    ratios = {name: row for name, row in compared.items() if row}
    best = min(ratios, key=lambda name: ratios[name]["ratio"], default="")
    row = ratios.get(best, {**ours, "ratio": 1.0})
    faster = bool(best) and row["ratio"] <= MARGIN and row["ratio_quartiles"][1] < 1
    tile = tiles[best] if faster else None
    return Found(key, job.case, usual, tile, best, row["ratio"], row["ms"], ours["ms"], len(sound), refused)


def _wrong(job: Job, name: str, body: Callable[[str], Callable[[], list[Tensor]]]) -> str | None:
    """Why a tile is refused before it is timed."""
    try:
        job.check(name, body(name)())
    except Refused as error:
        return str(error)
    except Exception as error:  # a tile that this GPU has no room for
        return f"stopped with {timing.said(error)}"
    return None


def words(tile: Tile) -> str:
    """A tile as the table of a terminal shows it."""
    return " ".join(f"{field}={value}" for field, value in tile.items())


# -- the table ---------------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    """A table of tiles. Raises DataError where there is none, or with the first entry that is none."""
    try:
        return _tiles.check(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}: measure it with gancore bench tune --out {path}") from error
    except ValueError as error:
        raise DataError(f"{path} is no table of tiles: {error}") from error


def merged(table: dict[str, Any], device: str, found: Sequence[Found], measured: dict[str, Any]) -> dict[str, Any]:
    """The table with what was found of this device: entries that were not measured now stay, those whose heuristic won go."""
    old = table[device]["tiles"] if device in table else {}
    kept = {key: tile for key, tile in old.items() if key not in {f.key for f in found}}
    tiles = {**kept, **{f.key: dict(f.tile) for f in found if f.tile is not None}}
    return _tiles.check({**table, device: {"measured": measured, "tiles": dict(sorted(tiles.items()))}})


def write(table: dict[str, Any], path: Path) -> None:
    """Write a table of tiles, a line an entry."""
    lines = []
    for device, found in sorted(table.items()):
        tiles = ",\n".join(f"  {json.dumps(key)}: {json.dumps(tile)}" for key, tile in found["tiles"].items())
        body = f"\n{tiles}\n " if tiles else ""
        lines.append(f' {json.dumps(device)}: {{"measured": {json.dumps(found["measured"])}, "tiles": {{{body}}}}}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")


def adopt(path: Path, table: Path | None = None) -> list[str]:
    """Put the devices of this file into the package's table; their names. Raises DataError for a file that is none."""
    table = table or _tiles.TABLE
    found = load(path)
    write({**load(table), **found}, table)
    return list(found)


def lines(found: Sequence[Found]) -> list[tuple[str, ...]]:
    """What a terminal shows of a run."""
    return [
        (f.key, words(f.usual), f.best if f.tile is not None else "the heuristic's", f"{f.ms:.4g} for {f.usual_ms:.4g}",
         f"{f.ratio:.3g}", str(f.tried), str(len(f.refused)))
        for f in found
    ]  # fmt: skip


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Tune on this machine's GPU; the table is written after every entry. Raises UsageError without a GPU, and
    GancoreError in the end if a heuristic's tile was wrong."""
    specs()  # makes all kernels known
    if asked.table:
        table = load(asked.out or _tiles.TABLE)
        rows = [(device, key, words(tile)) for device, entry in table.items() for key, tile in entry["tiles"].items()]
        return ("device", "entry", "tile"), rows
    if unknown := [row for row in asked.rows if not any(name.startswith(row) for name in _tiles.KERNELS)]:
        raise UsageError(f"tune has no kernel {unknown[0]!r}; there are {', '.join(_tiles.KERNELS)}")
    device = environment.pick_device(asked.device)
    if device.type != "cuda":
        raise UsageError("tune needs a GPU: it times Triton kernels there, and without one the heuristics' tiles serve")
    path = asked.out or (None if asked.quick else _tiles.TABLE)
    start = load(path if path and path.exists() else _tiles.TABLE)
    about = files.about(device)
    measured = {key: about[key] for key in ("versions", "commit")}
    found: list[Found] = []
    wrong: list[str] = []
    dtypes = tuple(_DTYPES)[: 1 if asked.quick else None]
    for one in tune(work(asked.quick), device, wrong, asked.rows, dtypes, say=say):
        found.append(one)
        if path:
            write(merged(start, _tiles.device_of(device), found, measured), path)
    files.refuse(wrong)
    return HEADINGS, lines(found)


def main() -> None:
    """The same without the packages of the command line, for a machine that has PyTorch alone; and what adopts its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--row", dest="rows", action="append", default=[])
    for flag in ("--out", "--adopt"):
        parser.add_argument(flag, type=Path)
    parser.add_argument("--device", default="auto")
    given = vars(parser.parse_args())
    try:
        if source := given.pop("adopt"):
            specs()
            print(f"{_tiles.TABLE} now has {', '.join(adopt(source)) or 'nothing new'}")
            return
        asked = Asked(**{**given, "rows": tuple(given["rows"])})
        suite.require(("tune",), asked)
        headings, found = bench(asked)
    except (UsageError, DataError) as error:
        parser.exit(2, f"tune: {error}\n")
    print(*("  ".join(line) for line in (headings, *found)), sep="\n")


if __name__ == "__main__":
    main()
