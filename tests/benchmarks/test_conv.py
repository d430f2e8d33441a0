"""`gancore bench conv`: its rows, who is refused, what is written and what tables say. No clock is asserted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from gancore.benchmarks import conv, conv_cases, conv_memory, peak, tables
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.conv_cases import Case
from gancore.cli.app import app
from gancore.core import GancoreError, UsageError

SMALL = {"batch": 4, "width": 4}
LAYER = Case("layer", index=1, **SMALL)
COMMITTED = Path(__file__).parents[2] / "benchmarks/results/conv-cpu.json"


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(app, ["bench", "conv", *map(str, words)])
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    return result


@pytest.fixture
def few(monkeypatch) -> None:
    """Moments of each kind of row."""
    rows = {
        "layers-64": conv.Row((LAYER, replace(LAYER, index=3)), ("ours", "eager", "last")),
        "layers-128": conv.Row((LAYER,), ("ours", "last-compiled")),
        "critic": conv.Row((Case("critic", order=2, **SMALL),), ("ours", "last")),
        "traffic": conv.Row((LAYER,), ("ours",), "traffic"),
    }
    monkeypatch.setattr(conv, "ROWS", rows)
    monkeypatch.setattr(conv, "small", lambda row: replace(row, seconds=0.001))
    monkeypatch.setattr(conv, "_QUICK_PAIRS", (2, 2))


# -- rows --------------------------------------------------------------------------------------------------------------------


def test_every_layer_type_and_batch_has_its_point():
    rows = conv.ROWS
    layers = [c for name in conv.rows_of(["layers"]) for c in rows[name].cases]
    assert len({(c.image, c.index, c.batch, c.dtype) for c in layers}) == len(layers) == (5 + 6) * 2 * 2
    assert {(c.image, c.index) for c in layers} == {(64, i) for i in range(5)} | {(128, i) for i in range(6)}
    assert {(c.batch, c.dtype) for c in layers} == {(n, dtype) for n in (16, 64) for dtype in ("float32", "bfloat16")}
    assert {"eager", "last", "last-compiled"} <= set(rows["layers-64-float32"].bodies)
    assert {"bare", "last", "last-compiled"} <= set(rows["generator"].bodies)
    assert {c.order for name in conv.rows_of(["critic"]) for c in rows[name].cases} == {1, 2}
    assert {c.dtype for c in rows["memory"].cases} == {"float32", "bfloat16"}
    assert {(c.image, c.batch) for c in rows["traffic"].cases} == {(64, 128), (128, 128)}
    assert all(min(conv.PAIRS) >= 15 and c.width == 64 for row in rows.values() for c in row.cases)
    assert conv.rows_of([]) == list(rows)
    with pytest.raises(UsageError, match=r"no row 'layer'; there are layers-64"):
        conv.rows_of(["layer"])


def test_layers_are_dcgans():
    assert conv_cases.sizes(Case("layer", 64)) == [(100, 512, 1), (512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 3, 32)]
    assert [s.outputs for s in conv_cases.sizes(Case("layer", 128))] == [1024, 512, 256, 128, 64, 3]
    assert conv_cases.sizes(Case("critic", 64)) == [(3, 64, 64), (64, 128, 32), (128, 256, 16), (256, 512, 8)]
    assert [type(m).__name__ for m in conv_cases.network(Case("generator", **SMALL))][-2:] == ["ConvTranspose2d", "Tanh"]
    assert conv_cases.describe(Case("layer", dtype="bfloat16")) == "DCGAN-64, 100x1x1 to 512x4x4, bfloat16, batch 64"


# -- what a point is held to -------------------------------------------------------------------------------------------------

CASES = [
    *(Case("layer", index=i, dtype=dtype, **SMALL) for i in (0, 1, 4) for dtype in ("float32", "bfloat16")),
    *(Case("critic", index=1, dtype=dtype, order=order, **SMALL) for order in (1, 2) for dtype in ("float32", "bfloat16")),
    *(Case("generator", dtype=dtype, **SMALL) for dtype in ("float32", "bfloat16")),
]


@pytest.mark.parametrize("case", CASES, ids=conv_cases.describe)
def test_every_body_computes_the_same(case):
    for name in ("ours", "eager", "last"):
        body = conv_cases.body(case, name)
        found = body()
        assert set(conv_cases.check(case, name, found)) == {"error"}
        wanted = [p for p in body.parameters.values() if case.order == 1 or p.ndim > 1]
        assert len(found) == 1 + len(wanted) + (case.work != "generator")


def test_bare_convolutions_are_those_of_the_generator():
    case = Case("generator", dtype="bfloat16", **SMALL)
    bare = conv_cases.body(case, "bare")
    assert bare() == {}
    assert [tuple(x.shape[1:]) for _, x, _, _ in bare.rows] == [(a, side, side) for a, _, side in conv_cases.sizes(case)]
    assert conv_cases.check(case, "bare", {}) == {}


@pytest.mark.parametrize("wrong", ["y", "gradient of x", "gradient of 1.weight", "nan"])
def test_a_body_that_is_wrong_is_refused(wrong, monkeypatch, few):
    true = conv_cases.Body.__call__

    def off(self):
        found = true(self)
        if hasattr(self, "off"):
            key = "y" if wrong == "nan" else wrong
            found[key] = found[key] * (float("nan") if wrong == "nan" else 1.02)
        return found

    def body(case, name):
        made = conv_cases.Body(case, name)
        vars(made).update({"off": True} if name == "ours" else {})
        return made

    monkeypatch.setattr(conv_cases.Body, "__call__", off)
    monkeypatch.setattr(conv_cases, "body", body)
    with pytest.raises(Refused, match=r"gancore, DCGAN-64, .*float32.*error .* against float64"):
        conv_cases.check(LAYER, "ours", conv_cases.body(LAYER, "ours")())
    point = conv.measure_point(replace(conv.ROWS["layers-64"], seconds=0.001), LAYER, {}, (1, 1))
    assert "refused" in point
    assert "bodies" not in point
    assert "refused: gancore" in conv.cells("times", {"case": "a layer", **point})[1]
    with pytest.raises(GancoreError, match=r"^refused: gancore"):
        conv.bench(conv.Asked(quick=True, rows=("layers-64",)))


def test_a_peer_that_stops_is_left_out_of_later_points_too(few):
    compiled = {"last-compiled": "stopped with RuntimeError: no double backward"}
    point = conv.measure_point(conv.ROWS["layers-128"], LAYER, dict(compiled), (1, 1))
    assert set(point["bodies"]) == {"ours"}
    assert point["left_out"] == compiled


# -- the command -------------------------------------------------------------------------------------------------------------


def test_a_run_writes_what_its_table_says(few, tmp_path):
    out = tmp_path / "conv.json"
    shown = invoke("--quick", "--out", out)
    assert shown.exit_code == 0, shown.output
    found = json.loads(out.read_text())
    assert {"device", "cpu", "threads", "versions", "commit", "quick"} <= set(found)
    assert [row["row"] for row in found["rows"]] == list(conv.ROWS)
    assert set(found["rows"][0]["points"][0]["bodies"]) == {"ours", "eager", "last"}
    assert found["rows"][0]["points"][0]["bodies"]["ours"]["rounds"] == 2
    assert found["rows"][1]["points"][0]["left_out"] == {"last-compiled": "left out of a quick run"}
    assert "left out of a quick run" in shown.stdout
    again = invoke("--table", "--out", out)
    assert again.stdout.splitlines()[2:] == shown.stdout[shown.stdout.index("\nconv\n") + 1 :].splitlines()
    assert invoke("--quick", "--row", "layers", "--out", out).exit_code == 0
    assert json.loads(out.read_text())["rows"][2:] == found["rows"][2:]


def test_a_quick_run_writes_nothing_by_itself(few, tmp_path, monkeypatch):
    monkeypatch.setattr(conv, "path_of", lambda device: tmp_path / "conv.json")
    assert invoke("--quick", "--row", "traffic").exit_code == 0
    assert not list(tmp_path.iterdir())
    assert invoke("--table").exit_code == 3


# -- memory and traffic ------------------------------------------------------------------------------------------------------


def test_held_is_every_storage_once_and_no_parameter():
    body = conv_cases.Body(LAYER, "last")
    y = body.forward()
    # x, the raw result, the activated one, and mean and inverse deviation of each channel.
    saved = body.x.nbytes + 2 * y.nbytes + 2 * 4 * y.shape[1]
    buffers = sum(b.nbytes for b in body.model.buffers() if b.ndim)
    assert conv_memory.held(body) in (saved, saved + buffers)


@pytest.mark.skipif(not peak.known() or torch.cuda.is_available(), reason="the process is not told its peak")
def test_a_process_of_its_own_tells_what_it_holds():
    found = conv_memory.measured(Case("generator", batch=8, width=16), "ours")
    assert found is not None
    assert 0 < found["held"] < 10
    assert found["peak"] > 0


def test_traffic_is_over_the_least():
    point = conv.traffic(replace(LAYER, dtype="bfloat16"))
    assert point["least"] <= point["cached"] < point["uncached"]
    assert "of the least" in conv.cells("traffic", {"case": "a layer", **point})[1]


# -- tables ------------------------------------------------------------------------------------------------------------------


def test_the_readme_table_hides_no_refusal_and_no_slower_body():
    bodies = {
        "ours": {"ms": 10.0, "ratio": 1.0}, "last": {"ms": 9.0, "ratio": 0.9}, "eager": {"ms": 11.0, "ratio": 1.1},
        "bare": {"ms": 8.0, "ratio": 0.8},
    }  # fmt: skip
    memory = {"ours": {"held": 5.0, "peak": 9.0}, "last": {"held": 10.0, "peak": 12.0}}
    at = lambda title, batch: {"case": f"{title}, {batch}", "title": title, "dtype": "float32", "batch": batch, "left_out": {}}
    layers = [{**at("a", 16), "bodies": bodies, "left_out": {"last-compiled": "no compiler"}}, {**at("a", 64), "bodies": bodies}]
    rows = [
        {"row": "layers", "how": "times", "points": layers},
        {"row": "critic", "how": "times", "points": [{**at("b", 64), "refused": "gancore is off"}]},
        {"row": "generator", "how": "times", "points": [{**at("c", 64), "bodies": bodies}]},
        {"row": "memory", "how": "memory", "points": [{**at("d", 64), "bodies": memory}]},
        {"row": "traffic", "how": "traffic", "points": [{"case": "e", "least": 100, "cached": 103, "uncached": 500}]},
    ]
    commits = [{**row, "commit": "abc"} for row in rows]
    text = tables.conv_text({"rows": commits, "device": "a machine", "versions": {"torch": "2"}})
    assert "| layer | float32, batch 16 | float32, batch 64 |" in text
    assert "| a | 10 ms, **0.9x** | 10 ms, **0.9x** |" in text
    assert "| b |  | refused: gancore is off |" in text
    assert "| c, 64 | 10 ms | 11 ms, **1.1x** | 9 ms, **0.9x** |  |  | 8 ms, **0.8x** |" in text
    assert "c, 64: gancore takes 1.25 times its bare convolutions" in text
    assert "holds 5 MB for backward, 0.5 of eager's 10 MB; at its peak 9 MB, eager 12 MB" in text
    assert "moves at most 1.03 of the least bytes, at e" in text
    assert "left out: no compiler" in text
    assert text.endswith("a machine, torch 2, commit abc.")


@pytest.mark.skipif(not COMMITTED.exists(), reason="not measured yet")
def test_the_readme_shows_the_committed_result():
    readme = (COMMITTED.parents[2] / "README.md").read_text()
    assert tables.conv_text(json.loads(COMMITTED.read_text())) in readme, "run python -m benchmarks.tables"
