"""`gancore bench`: its usage, what is refused, who is left out, and what tables and plots are made of. No clock is asserted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import gancore
from gancore.benchmarks import cases, compare, exact, mmd, peak, peers, plots, suite, tables, timing
from gancore.benchmarks.cases import Case, Refused
from gancore.cli.app import app
from gancore.core import DataError, GancoreError

CPU = torch.device("cpu")
TINY = Case("mmd", 24, 6, "powers")
COMMITTED = Path(__file__).parents[2] / "benchmarks/results/mmd-cpu.json"


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(app, ["bench", *map(str, words)])
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    return result


# -- the command ---------------------------------------------------------------------------------------------------------------


def test_without_a_name_it_lists_and_says_which_gancore_it_is():
    shown = invoke().stdout
    assert f"gancore {gancore.__version__} at {Path(gancore.__file__).parent}" in shown
    assert all(name in shown for name in ("mmd", "loop", "dispatch"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("mdd",), "did you mean mmd"),
        (("mmd", "--row", "none"), "there are powers"),
        (("loop", "--row", "none"), "loop has one row"),
        (("dispatch", "--row", "none"), "there are batch_norm_act"),
        (("dispatch", "--out", "x.json"), "nowhere else"),
        (("mmd", "--fast"), "No such option"),
        (("loop", "--compare", "x.json"), "loop has no use for --compare"),
        (("mmd", "dispatch", "--device", "cpu"), "dispatch has no use for --device"),
        (("mmd", "conv", "--out", "x.json"), "--out names the result of one benchmark"),
        (("conv", "--device", "cuda:1"), "CUDA_VISIBLE_DEVICES"),
        (("critic", "--device", "gpu"), "device must be auto"),
        (("loop", "--device", "gpu"), "device must be auto"),
    ],
)
def test_what_cannot_work_is_a_usage_error(words, hint):
    result = invoke(*words)
    assert (result.exit_code, hint in result.stderr) == (2, True), result.stderr


def test_without_the_native_library_nothing_is_measured(monkeypatch):
    from gancore.kernels import _native

    monkeypatch.setattr(_native, "missing", lambda device: "the native extension gancore._C is not installed; build it: pip")
    result = invoke("mmd", "--quick")
    assert result.exit_code == 2
    assert "is not installed" in result.stderr
    assert "build it: pip" in result.stderr
    assert invoke().exit_code == 0


def test_the_device_asked_for_reaches_the_clock(monkeypatch):
    """On a machine with a GPU, --device cpu measures the CPU."""
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(mmd, "bench", lambda asked, say: seen.append(timing.on_gpu()) or ((), ()))
    for device in ("cpu", "auto"):
        suite.run("mmd", suite.Asked(device=device))
    assert seen == [False, True]


def test_a_table_needs_a_result(tmp_path):
    assert invoke("mmd", "--table", "--out", tmp_path / "none.json").exit_code == 3
    (tmp_path / "cut.json").write_text('{"rows": ')
    with pytest.raises(DataError, match=r"cut.json is no result"):
        mmd.load(tmp_path / "cut.json")


@pytest.fixture
def small(monkeypatch) -> None:
    """Two rows of moments, so that a whole run takes one."""
    quick = {name: replace(mmd.ROWS[name], small=case) for name, case in (
        ("powers", TINY), ("minibatch", Case("minibatch", 9, 4)), ("scaling", replace(TINY, n=0)),
    )}  # fmt: skip
    rows = {"powers": replace(quick["powers"], bodies=("ours", "blocks-eager", "keops")),
            "minibatch": replace(quick["minibatch"], bodies=("ours", "broadcast-eager"), peaks=False),
            "scaling": replace(quick["scaling"], bodies=("ours", "cdist-eager"))}  # fmt: skip
    monkeypatch.setattr(mmd, "ROWS", rows)
    monkeypatch.setattr(mmd, "_QUICK_SIZES", (8, 16))
    monkeypatch.setattr(mmd, "_QUICK_SECONDS", 0.01)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(peak, "known", lambda: False)


def test_a_run_writes_what_its_table_says(small, tmp_path):
    out = tmp_path / "mmd.json"
    shown = invoke("mmd", "--quick", "--out", out)
    assert shown.exit_code == 0, shown.output
    found = json.loads(out.read_text())
    assert {"device", "cpu", "threads", "versions", "commit"} <= set(found)
    assert {"torch", "numpy", "pykeops", "torch-fidelity"} <= set(found["versions"])
    assert [row["row"] for row in found["rows"]] == ["powers", "minibatch", "scaling"]
    powers = found["rows"][0]
    assert set(powers["bodies"]) == {"ours", "blocks-eager"}
    assert powers["bodies"]["ours"]["ratio"] == 1
    assert powers["bodies"]["blocks-eager"]["value_error"] < cases.VALUE
    assert 'pip install "gancore[bench]"' in powers["left_out"]["keops"]
    assert 'pip install "gancore[bench]"' in shown.stdout  # who is left out is named
    again = invoke("mmd", "--table", "--out", out)
    assert again.stdout.splitlines()[2:] == shown.stdout[shown.stdout.index("\nmmd\n") + 1 :].splitlines()
    # A run may write over the file that it is held against.
    one = invoke("mmd", "--quick", "--row", "minibatch", "--out", out, "--compare", out, "--device", "cpu")
    assert one.exit_code == 0
    assert "of 4 points in both results" in one.stdout or "slower: minibatch" in one.stdout
    assert json.loads(out.read_text())["rows"][0] == powers


def test_a_quick_run_writes_nothing_by_itself(small, tmp_path, monkeypatch):
    monkeypatch.setattr(mmd, "path_of", lambda device: tmp_path / "mmd.json")
    assert invoke("mmd", "--quick", "--row", "minibatch").exit_code == 0
    assert not list(tmp_path.iterdir())


def test_every_benchmark_is_held_against_an_old_result(tmp_path):
    """Of each the committed file against itself with gancore's times halved: a point got slower where its
    spread lies above half of it, as most do."""
    for name in suite._SERVES["compare"]:
        path = COMMITTED.with_name(f"{name}-cpu.json")
        if path.exists():
            old = json.loads(path.read_text())
            bodies = [body for _, body in compare._ours(old)]
            assert bodies
            for body in bodies:
                body["ms"], body["quartiles"] = body["ms"] / 2, [t / 2 for t in body["quartiles"]]
            apart = [body for body in bodies if 2 * body["quartiles"][0] > body["quartiles"][1]]
            (tmp_path / "old.json").write_text(json.dumps(old))
            new = tmp_path / "new.json"
            new.write_text(path.read_text())
            shown = invoke(name, "--table", "--out", new, "--compare", tmp_path / "old.json")
            assert shown.exit_code == 0, shown.output
            assert shown.stdout.count("\nslower: ") == len(apart) > 0.8 * len(bodies), name
    assert invoke("conv", "--table", "--compare", tmp_path / "none.json").exit_code == 3


# -- what a row is held to -----------------------------------------------------------------------------------------------------


def by_hand(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient from all pairs of differences."""
    x, y = (t.double() for t in cases.inputs(case))
    x.requires_grad_()

    def mean(a, b):
        if case.kernel == "polynomial":
            return ((a @ b.T) / case.d + 1).pow(3).mean()
        d = (a[:, None] - b[None]).square().sum(2)
        if case.kernel == "rational quadratic":
            return sum((1 + d / (2 * a)) ** -a for a in cases._ALPHAS).mean()
        return sum(torch.exp(-d / (2 * s * s)) for s in cases.bandwidths(case)).mean()

    value = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("kernel", ["powers", "arbitrary", "rational quadratic", "polynomial"])
def test_the_exact_formula_is_that_of_all_pairs(kernel):
    case = replace(TINY, kernel=kernel, n=300)
    value, gradient = by_hand(case)
    x, y = cases.inputs(case)
    kernel, of = cases._kernel(case, compact=True), cases._of(case)
    found, scale = exact.mmd_value(x, y, kernel, of)
    assert found == pytest.approx(float(value), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(exact.mmd_gradient(x, y, kernel, of, 290), gradient[:290], rtol=1e-8, atol=1e-14)
    assert scale > 0.1


BODIES = [
    *((kernel, body) for kernel in ("powers", "arbitrary") for body in ("ours", "closed-eager", "blocks-eager", "cdist-eager")),
    *((kernel, body) for kernel in ("rational quadratic", "polynomial") for body in ("ours", "blocks-eager")),
    ("powers", "single-eager"),
]


@pytest.mark.parametrize(("kernel", "body"), BODIES)
def test_every_body_computes_the_same(kernel, body, monkeypatch):
    monkeypatch.setattr(peers, "compiled", lambda function: function)
    monkeypatch.setitem(peers.LABELS, body, body)
    case = replace(TINY, kernel=kernel)
    cases.check(case, body, cases.body(case, body)())


@pytest.mark.parametrize("case", [Case("minibatch", 9, 4), Case("kid", 40, 8, subsets=3, size=20)])
def test_other_work_is_checked_too(case):
    errors = cases.check(case, "ours", cases.body(case, "ours")())
    assert set(errors) == ({"value_error", "gradient_error"} if case.work == "minibatch" else {"value_error"})


@pytest.mark.parametrize("wrong", ["value", "gradient", "nan"])
def test_a_body_that_is_wrong_refuses_the_row(wrong, monkeypatch, small):
    true = cases._ours

    def off(case):
        def run(x, y):
            value, gradient = true(case)(x, y)
            factor = {"value": (1.02, 1), "gradient": (1, 1.02), "nan": (float("nan"), 1)}[wrong]
            return value * factor[0], gradient * factor[1]

        return run

    monkeypatch.setattr(cases, "_ours", off)
    with pytest.raises(Refused, match=r"gancore, 2 x 24 samples.*error .* against float64"):
        mmd.compare(TINY, ["ours", "blocks-eager"], 0.01, {})
    row = mmd.measure("powers", "cpu", quick=True)
    assert "refused" in row
    assert "bodies" not in row
    with pytest.raises(GancoreError, match=r"^refused: gancore.*and 1 more"):
        mmd.bench(suite.Asked(quick=True))


def test_a_peer_that_stops_is_left_out_and_ours_is_not(monkeypatch):
    def stops(case, name):
        if name == "blocks-eager":
            raise RuntimeError("no such thing\nmore")
        return body(case, name)

    body = cases.body
    monkeypatch.setattr(cases, "body", stops)
    left_out = {}
    assert set(mmd.compare(TINY, ["ours", "blocks-eager"], 0.01, left_out)) == {"ours"}
    assert left_out == {"blocks-eager": "stopped with RuntimeError: no such thing"}
    monkeypatch.setattr(cases, "body", lambda case, name: stops(case, "blocks-eager"))
    with pytest.raises(RuntimeError, match="no such thing"):
        mmd.compare(TINY, ["ours"], 0.01, {})


def test_who_would_need_too_much_is_left_out_from_there_on(monkeypatch):
    def compare(case, names, *rest, **options):
        return {name: {"ms": 1e2 * (case.n / 8) ** 2 * (200 if name == "slow" else 1), "ratio": 1.0} for name in names}

    monkeypatch.setattr(mmd, "compare", compare)
    monkeypatch.setattr(peers, "LABELS", {name: name for name in ("ours", "slow", "big")})
    monkeypatch.setattr(peak, "known", lambda: True)
    monkeypatch.setattr(peak, "measured", lambda case, name: {"mb": 300.0 * (case.n / 8) ** 2 if name == "big" else 1.0})
    points = list(mmd.scale(TINY, ["ours", "slow", "big"], (8, 16, 32, 64, 128), 1.0, lambda line: None))
    assert [sorted(p["bodies"]) for p in points] == [["big", "ours", "slow"], *[["big", "ours"]] * 2, ["ours"], ["ours"]]
    assert points[1]["left_out"] == {"slow": "over 60 s"}
    assert points[-1]["left_out"] == {"slow": "over 60 s", "big": "over 16 GB"}
    assert mmd.too_much(None) is None


# -- parts ---------------------------------------------------------------------------------------------------------------------


def test_bodies_take_turns_and_the_slow_sit_out(monkeypatch):
    played = []
    clock = {"ours": 1.0, "fast": 0.5, "slow": 4.0}

    def once(body):
        played.append(body())
        return clock[played[-1]]

    monkeypatch.setattr(timing, "once", once)
    found = timing.alternate({name: lambda name=name: name for name in clock}, "ours", seconds=7.0, rounds=(2, 20))
    assert played[:6] == ["slow", "fast", "ours", "ours", "fast", "slow"]
    assert {name: row["rounds"] for name, row in found.items()} == {"ours": 14, "fast": 14, "slow": 2}
    assert {name: row["ratio"] for name, row in found.items()} == {"ours": 1, "fast": 0.5, "slow": 4}


@pytest.mark.skipif(not peak.known() or torch.cuda.is_available(), reason="the process is not told its peak")
def test_memory_is_that_of_the_call():
    case = Case("mmd", 1500, 8, "powers")
    matrix = 3000**2 * 4e-6
    whole = peak.measured(case, "cdist-eager", check=True)
    assert whole is not None
    assert 3 * matrix < whole["mb"] < 20 * matrix
    assert whole["value_error"] < cases.VALUE


def test_one_call_in_a_fresh_process_is_checked_too(monkeypatch):
    with pytest.raises(Refused, match="gancore is off"):
        peak.answer({"refused": "gancore is off"})
    case = replace(TINY, n=21)
    value, gradient = cases.body(case, "ours")()
    monkeypatch.setattr(cases, "MOST_CHECKED", 20)
    assert set(cases.check(case, "ours", (value * 1.1, gradient))) == {"gradient_error"}
    with pytest.raises(Refused, match="gradient error"):
        cases.check(case, "ours", (value, gradient * 1.1))


def test_the_plot_bears_its_figures_and_says_who_is_left_out(tmp_path, small):
    row = mmd.measure("scaling", "cpu", quick=True)
    row["points"][1]["left_out"] = {"cdist-eager": "over 16 GB"}
    del row["points"][1]["bodies"]["cdist-eager"]
    assert plots._label("cdist-eager", row["points"]) == "concatenated cdist, eager (left out from N 16: over 16 GB)"
    assert mmd.draw({"rows": [row]}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["Description"] == plots.fingerprint(row["points"])
        assert picture.width > 900
    assert not mmd.draw({"rows": []}, tmp_path / "b.png")


@pytest.mark.skipif(not COMMITTED.exists(), reason="not measured yet")
def test_the_committed_plot_is_that_of_the_committed_result():
    row = next((r for r in mmd.load(COMMITTED)["rows"] if r["row"] == "scaling"), None)
    if row is None:
        pytest.skip("this row is not measured yet")
    with Image.open(COMMITTED.parents[2] / mmd.PLOT.format(device="cpu")) as picture:
        assert picture.info["Description"] == plots.fingerprint(row["points"]), "run gancore bench mmd --table"


@pytest.mark.skipif(peers.missing("fidelity", CPU) is not None, reason="torch-fidelity is not installed")
def test_blocks_of_kid_are_those_that_torch_fidelity_draws():
    case = Case("kid", 60, 8, subsets=4, size=30)
    theirs = cases.check(case, "fidelity", cases.body(case, "fidelity")())
    assert theirs["value_error"] < 1e-5  # other blocks differ by 1e-3


def test_the_readme_table_shows_the_better_formula_and_hides_no_refusal():
    times = {"ours": (40.0, 1.0), "blocks-compiled": (100.0, 2.5), "single-compiled": (80.0, 2.0), "keops": (12_860.0, 321.5)}
    bodies = {name: {"ms": ms, "ratio": ratio, "value_error": 1e-9, "mb": 12.0} for name, (ms, ratio) in times.items()}
    case, commit = "2 x 9 samples", "abc"
    rows = [
        {"row": "powers", "case": case, "bodies": bodies, "left_out": {"cdist-eager": "no reason"}, "commit": commit},
        {"row": "d16", "case": case, "refused": "gancore is off", "commit": commit},
        {"row": "kid", "case": "3 blocks", "bodies": {"ours": bodies["ours"], "fidelity": bodies["keops"]}, "commit": commit},
        {"row": "large", "case": case, "bodies": {"ours": bodies["ours"]}, "commit": commit},
    ]
    versions = {"torch": "2", "pykeops": "3", "torch-fidelity": "absent"}
    text = tables.mmd_text({"rows": rows, "device": "a machine", "versions": versions})
    assert "| 2 x 9 samples | 40 ms | 80 ms, **2x** |  |  |  |  | 12.9 s, **322x** |" in text
    assert "refused: gancore is off" in text
    assert "torch-fidelity, the same blocks: 12.9 s (322x) and 12 MB" in text
    assert "left out: no reason" in text
    assert "mmd-cpu.png" not in text
    assert text.endswith("a machine, torch 2, pykeops 3, torch-fidelity absent, commit abc.")
