"""What `make bench-report` makes of results of `gancore bench operators` and `batch`, and that what is committed agrees."""

import json
from pathlib import Path

import pytest
from PIL import Image

from gancore.benchmarks import files, plots, tables

ROOT = Path(__file__).resolve().parents[2]


def body(ms, ratio, **more):
    return {"ms": ms, "ratio": ratio, "quartiles": [ms, ms], "of_copy": 0.25, **more}


def point(work, **more):
    return {"class": "large", "shape": "8 x 2", "dtype": "float32", "work": work, "case": f"step, {work}", **more}


HEAD = {"device": "a machine", "versions": {"torch": "2"}, "machine": {"copy": 2e10, "rate": 3e10}}
OPERATORS = {**HEAD, "rows": [
    {"row": "softclip", "commit": "abc", "points": [
        point("forward", bodies={
            "ours": body(2.0, 1.0), "eager": body(6.0, 3.0), "compiled": body(5.0, 2.5), "native": body(1.0, 0.5),
        }),
        point("backward", bodies={"ours": body(4.0, 1.0), "eager": body(8.0, 2.0)}),
        point("double backward", refused="gancore is off"),
    ]},
    {"row": "dcgan", "commit": "abd", "points": [point("step", bodies={"ours": body(9.0, 1.0), "eager": body(18.0, 2.0)})]},
]}  # fmt: skip
BATCH = {**HEAD, "rows": [
    {"row": "dcgan", "commit": "abc", "case": "16 x 16", "points": [
        {"shape": n, "bodies": {"ours": body(1.0, 1.0, samples_per_second=1000.0 * int(n), mb=3.0)}} for n in ("8", "16")
    ]},
]}  # fmt: skip


def test_the_table_of_operators_shows_the_best_peer_and_hides_no_refusal():
    text = tables.bench_operators_text(OPERATORS)
    row = "| softclip, large, 8 x 2, float32 | 2 ms, **2.5x**, 25.00% | 4 ms, **2x**, 25.00% | refused: gancore is off |"
    assert row in text  # the native body is gancore's own
    assert "| dcgan, step | 9 ms |  | 18 ms, **2x** |  |" in text
    assert "copies 20 GB/s, multiplies 30 Gflop/s; torch 2, commit abc, abd." in text


def test_the_table_of_batches():
    assert "| dcgan, 16 x 16 | 8,000, 3 MB | 16,000, 3 MB |" in tables.batch_text(BATCH)


@pytest.mark.parametrize(("draw", "result"), [(plots.operators, OPERATORS), (plots.batch, BATCH)])
def test_plots_bear_their_figures(draw, result, tmp_path):
    draw(result, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["Description"] == plots.fingerprint(result["rows"])
        assert picture.width > 900


def test_a_section_without_a_result_is_empty(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.bench_operators() == tables.batch() == ""
    monkeypatch.setattr(tables, "TABLES", {"batch": tables.batch})
    text = "a\n<!-- batch -->\nold\n<!-- /batch -->\nb"
    empty = tables.filled(text)
    assert empty == "a\n<!-- batch -->\n<!-- /batch -->\nb"
    assert tables.filled(empty) == empty
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "benchmarks/results/batch-cpu.json").write_text(json.dumps(BATCH))
    assert tables.filled(empty) == f"a\n<!-- batch -->\n{tables.batch_text(BATCH)}\n<!-- /batch -->\nb"


@pytest.mark.parametrize(("name", "plot"), [("operators", tables.OPERATORS_PLOT), ("batch", tables.BATCH_PLOT)])
def test_the_committed_plots_are_those_of_the_committed_results(name, plot):
    path = ROOT / f"benchmarks/results/{name}-cpu.json"
    assert path.exists() == (ROOT / plot).exists()
    if path.exists():
        with Image.open(ROOT / plot) as picture:
            assert picture.info["Description"] == plots.fingerprint(files.load(name, path)["rows"]), "run make bench-report"
