"""The tuner of tiles, with a stand-in for the clock and Triton's interpreter for the GPU: what it times, refuses, stores, and what
is launched of it."""

import json
from typing import Any

import pytest
import torch

from gancore import kernels
from gancore.benchmarks import conv_cases, files, tune
from gancore.core import DataError, GancoreError, UsageError
from gancore.kernels import _tiles, _triton
from gancore.kernels._spec import specs

CPU = torch.device("cpu")
SPEC = specs()["interpolate"]
SMALL = SPEC.bench[0]
FAST = "elements=2048 warps=4"

needs_interpreter = pytest.mark.skipif(not _triton.INTERPRETED, reason="needs Triton's interpreter")


class Clock:
    """In the place of `timing.compare`: one tile's times are what it is told, every other takes twice the heuristic's."""

    def __init__(self, **fast: Any) -> None:
        self.fast = {"ratio": 0.5, "ratio_quartiles": [0.4, 0.6], **fast}
        self.timed: list[list[str]] = []

    def __call__(self, names, body, check, seconds, left_out, rounds, repeats, fresh):
        assert fresh
        self.timed.append(list(names))
        for name in names:
            check(name, body(name)())
        rows = {name: {"ms": 2.0, "ratio": 2.0, "ratio_quartiles": [1.9, 2.1]} for name in names}
        rows["ours"] |= {"ms": 1.0, "ratio": 1.0}
        if FAST in rows:
            rows[FAST] |= {"ms": self.fast["ratio"], **self.fast}
        return rows


def tuned(clock, spec=SPEC, bench=SMALL, **options):
    said: list[str] = []
    found = list(tune.tune([(spec, bench)], CPU, said, dtypes=["float32"], timer=clock, say=said.append, **options))
    return found, said


def break_launches(monkeypatch, broken, how):
    """What `how` does after every launch of blocks that `broken` accepts."""
    launch = _triton.launch

    def launched(kernel, programs, like, *args, **options):
        launch(kernel, programs, like, *args, **options)
        if broken(options.get("BLOCK")):
            how(like)

    monkeypatch.setattr(_triton, "launch", launched)


def raising(like):
    raise RuntimeError("out of resource: shared memory")


# -- measuring -----------------------------------------------------------------------------------------------------------------


@needs_interpreter
def test_the_fastest_tile_wins_and_each_entry_is_measured_once():
    clock = Clock()
    (found,), said = tuned(clock)
    n = torch.Size([16, 3, 8, 8]).numel()
    assert found.key == _tiles.KERNELS["interpolate"].key(torch.float32, 0, n)
    assert (found.tile, found.usual) == ({"elements": 2048, "warps": 4}, {"elements": 1024, "warps": 4})
    assert (found.ratio, found.ms, found.usual_ms, found.refused) == (0.5, 0.5, 1.0, {})
    # The heuristic's tile is the base, and no candidate besides.
    (names,) = clock.timed
    assert names[0] == "ours"
    assert len(names) == len(_tiles.KERNELS["interpolate"].candidates(4)) == found.tried + 1
    assert said == [f"{found.key}: {FAST}, 0.5 of the heuristic's time"]


@needs_interpreter
@pytest.mark.parametrize(
    "fast", [{"ratio": 0.98, "ratio_quartiles": [0.97, 0.99]}, {"ratio": 0.9, "ratio_quartiles": [0.8, 1.1]}], ids=str
)
def test_the_heuristic_serves_where_nothing_is_clearly_faster(fast):
    (found,), said = tuned(Clock(**fast))
    assert found.tile is None
    assert "the heuristic serves" in said[0]
    assert tune.lines([found])[0][2] == "the heuristic's"


@needs_interpreter
def test_replays_are_compared_where_there_are_graphs():
    def replays(*given, **options):
        rows = Clock(ratio=0.9)(*given, **options)
        for name, row in rows.items():
            ratio = 0.3 if name == "elements=4096 warps=4" else 1.0
            row["graph"] = {**row, "ms": 0.1, "ratio": ratio, "ratio_quartiles": [0.2, 0.4]}
        del rows[FAST]["graph"]
        return rows

    (found,), _ = tuned(replays)
    assert (found.best, found.ratio, found.usual_ms) == ("elements=4096 warps=4", 0.3, 0.1)


@needs_interpreter
@pytest.mark.parametrize("how", [lambda like: like.mul_(1.02), raising], ids=["wrong", "no room"])
def test_a_wrong_candidate_is_refused_named_and_not_timed(how, monkeypatch):
    break_launches(monkeypatch, lambda block: block == 2048, how)
    clock = Clock()
    (found,), said = tuned(clock)
    refused = {"elements=2048 warps=4", "elements=2048 warps=8"}
    assert set(found.refused) == refused
    assert not refused & set(clock.timed[0])
    assert found.tile is None
    assert all(f"{found.key}: refused {name}: " in "\n".join(said) for name in refused)
    assert all(("error 0.02" in reason) != ("out of resource" in reason) for reason in found.refused.values())


@needs_interpreter
def test_where_the_heuristic_is_wrong_nothing_is_tuned(monkeypatch):
    break_launches(monkeypatch, lambda block: block == 1024, lambda like: like.mul_(1.02))
    clock = Clock()
    found, said = tuned(clock)
    assert (found, clock.timed) == ([], [])
    assert any("not tuned: interpolate 16 x 3 x 8 x 8, float32, forward: the heuristic's tile: error 0.02" in line for line in said)


@needs_interpreter
def test_kernels_of_derivatives_are_tuned_by_those():
    clock = Clock()
    found, _ = tuned(clock, specs()["gradient_norm_penalty"], specs()["gradient_norm_penalty"].bench[0])
    assert [f.case.rpartition(", ")[2] for f in found] == ["forward", "backward", "double backward"]
    assert [f.key.split("order=")[1][0] for f in found] == ["0", "1", "2"]
    assert tuned(clock, rows=["conv"])[0] == []


# -- storing -------------------------------------------------------------------------------------------------------------------


def found_of(key: str, tile: dict[str, int] | None) -> tune.Found:
    return tune.Found(key, "", {"elements": 1024, "warps": 4}, tile, "", 0.5, 1.0, 2.0, 7, {})


def test_winners_are_merged_with_what_is_there(tmp_path):
    of = lambda n: _tiles.KERNELS["interpolate"].key(torch.float32, 0, n)
    old, new = {"elements": 512, "warps": 4}, {"elements": 4096, "warps": 8}
    table = {"one GPU": {"measured": {"commit": "a"}, "tiles": {of(8): old}}}
    table["other GPU"] = {"measured": {"commit": "b"}, "tiles": {of(8): old, of(16): old, of(32): old}}
    found = [found_of(of(16), new), found_of(of(32), None), found_of(of(64), new)]
    result = tune.merged(table, "other GPU", found, {"commit": "c"})
    assert result["one GPU"] == table["one GPU"]
    assert result["other GPU"] == {"measured": {"commit": "c"}, "tiles": {of(8): old, of(16): new, of(64): new}}
    assert tune.merged({}, "a new GPU", found[1:2], {})["a new GPU"]["tiles"] == {}
    for each in (result, {}, tune.merged({}, "a new GPU", found[1:2], {})):
        tune.write(each, tmp_path / "tiles.json")
        assert tune.load(tmp_path / "tiles.json") == json.loads((tmp_path / "tiles.json").read_text()) == each
    with pytest.raises(ValueError, match="no candidate"):
        tune.merged({}, "a GPU", [found_of(of(8), {"elements": 1000, "warps": 4})], {})


def test_a_file_is_adopted_by_device_or_refused(tmp_path):
    key = _tiles.KERNELS["interpolate"].key(torch.float32, 0, 8)
    entry = lambda commit: {"measured": {"commit": commit}, "tiles": {key: {"elements": 512, "warps": 4}}}
    table, other = tmp_path / "table.json", tmp_path / "other.json"
    tune.write({"a": entry("1"), "b": entry("1")}, table)
    tune.write({"b": entry("2"), "c": entry("2")}, other)
    assert tune.adopt(other, table) == ["b", "c"]
    assert tune.load(table) == {"a": entry("1"), "b": entry("2"), "c": entry("2")}
    before = table.read_text()
    other.write_text(other.read_text().replace("512", "513"))
    with pytest.raises(DataError, match=r"other.json is no table of tiles: tiles of 'b': 'interpolate/.*513.* is no candidate"):
        tune.adopt(other, table)
    with pytest.raises(DataError, match="there is no"):
        tune.adopt(tmp_path / "none.json", table)
    assert table.read_text() == before


@needs_interpreter
def test_what_was_stored_is_launched(tmp_path, monkeypatch):
    found, _ = tuned(Clock())
    path = tmp_path / "tiles.json"
    tune.write(tune.merged({}, "cpu", found, {}), path)
    blocks = []
    launch = _triton.launch
    monkeypatch.setattr(_triton, "launch", lambda *args, **options: (blocks.append(options["BLOCK"]), launch(*args, **options)))
    tensors = {n: t.float() for n, t in SMALL.draw(torch.Generator().manual_seed(0)).items()}
    plain = kernels.interpolate(**tensors, impl="triton")
    with _tiles.using("cpu", tune.load(path)["cpu"]["tiles"]):
        stored = kernels.interpolate(**tensors, impl="triton")
    assert blocks == [1024, 2048]
    assert torch.equal(plain, stored)


# -- the command ---------------------------------------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_in_a_line():
    with pytest.raises(UsageError, match=r"^tune needs a GPU: [^\n]+$"):
        tune.bench(tune.Asked(device="cpu"))
    with pytest.raises(UsageError, match="there are batch_norm_act"):
        tune.bench(tune.Asked(device="cpu", rows=("none",)))
    assert tune.bench(tune.Asked(table=True))[0] == ("device", "entry", "tile")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with "a GPU", whose tuning finds two entries, and a table of the package with another's."""
    of = lambda n: _tiles.KERNELS["interpolate"].key(torch.float32, 0, n)
    table = tmp_path / "package.json"
    tune.write({"another": {"measured": {}, "tiles": {of(8): {"elements": 512, "warps": 4}}}}, table)
    monkeypatch.setattr(_tiles, "TABLE", table)
    monkeypatch.setattr(_tiles, "device_of", lambda device: "a GPU")
    monkeypatch.setattr(tune.environment, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(files, "about", lambda device: {"device": "a GPU", "versions": {"torch": "2"}, "commit": "c", "threads": 1})

    def found(jobs, device, wrong, rows, dtypes, say):
        yield found_of(of(8), {"elements": 2048, "warps": 4})
        wrong += ["the heuristic is off"] * len(rows)
        yield found_of(of(16), None)

    monkeypatch.setattr(tune, "tune", found)
    return table


def test_a_run_writes_the_table_with_what_it_was_measured_on(machine, tmp_path):
    out = tmp_path / "out.json"
    before = machine.read_text()
    headings, lines = tune.bench(tune.Asked(out=out))
    assert [len(line) for line in lines] == [len(headings)] * 2
    assert machine.read_text() == before
    found = tune.load(out)
    assert found.keys() == {"a GPU", "another"}
    assert found["a GPU"]["measured"] == {"versions": {"torch": "2"}, "commit": "c"}
    assert list(found["a GPU"]["tiles"].values()) == [{"elements": 2048, "warps": 4}]
    tune.bench(tune.Asked(quick=True))
    assert machine.read_text() == before
    tune.bench(tune.Asked())
    assert tune.load(machine) == found


def test_a_wrong_heuristic_fails_the_run_in_the_end(machine, tmp_path):
    with pytest.raises(GancoreError, match="the heuristic is off"):
        tune.bench(tune.Asked(out=tmp_path / "out.json", rows=("interpolate",)))
    assert len(tune.load(tmp_path / "out.json")["a GPU"]["tiles"]) == 1


@pytest.mark.parametrize(("work", "name", "end"), [
    ("layer", "conv_transpose2d_bn_act", (2, 3, 64, 64)), ("critic", "conv2d_bias_act", (2, 512, 4, 4)),
])  # fmt: skip
def test_the_layers_are_those_of_a_dcgan(work, name, end, monkeypatch):
    monkeypatch.setattr(tune, "_BATCH", 2)
    sizes = conv_cases.sizes(conv_cases.Case(work))
    layers = [(spec, bench) for spec, bench in tune.layers() if spec.name == name]
    shape = (2, *sizes[0][:1], sizes[0].side, sizes[0].side)
    for (spec, bench), _ in zip(layers, sizes, strict=True):
        drawn = bench.draw(torch.Generator().manual_seed(0))
        assert drawn["x"].shape == shape
        y = spec.reference(**drawn, **bench.options)
        shape = (y if isinstance(y, torch.Tensor) else y[0]).shape
    assert shape == end


def test_every_operator_with_kernels_is_tuned(monkeypatch):
    shapes = iter(range(10_000))
    monkeypatch.setattr(tune, "_shapes", lambda bench: next(shapes) % 2)  # instead of drawing them all
    there = {name for name, spec in specs().items() if "triton" in spec.dtypes and spec.bench}
    found = [spec.name for spec, _ in tune.work()]
    assert set(found) == there
    assert found[0].startswith("conv")
    assert {spec.name for spec, _ in tune.work(quick=True)} == there
