"""`gancore bench critic`: its rows, who is refused, what is written and what tables say. No clock is asserted."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner, Result

from gancore.benchmarks import critic, critic_cases, peak
from gancore.benchmarks.cases import Refused
from gancore.benchmarks.critic_cases import Case
from gancore.cli.app import app
from gancore.core import GancoreError, UsageError

SMALL = {"batch": 3, "width": 4, "side": 16}
CASE = Case(**SMALL)


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(app, ["bench", "critic", *map(str, words)])
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    return result


@pytest.fixture
def few(monkeypatch) -> None:
    """Moments of each kind of row."""
    rows = {
        "critic": critic.Row((CASE,), ("ours", "eager", "last", "bare")),
        "resnet": critic.Row((replace(CASE, net="resnet"),), ("ours", "last-compiled")),
        "resnet-norm": critic.Row((replace(CASE, net="resnet-norm", penalty="r1r2"),), ("ours", "last")),
    }
    monkeypatch.setattr(critic, "ROWS", rows)
    monkeypatch.setattr(critic, "small", lambda row: replace(row, seconds=0.001))
    monkeypatch.setattr(critic, "_QUICK_PAIRS", (2, 2))


def test_every_goal_has_its_row():
    rows = critic.ROWS
    points = {(c.net, c.penalty, c.batch, c.dtype) for row in rows.values() for c in row.cases if row.how == "times"}
    for net, penalty, dtype in (
        ("critic", "gp", "float32"), ("critic", "gp", "bfloat16"), ("resnet", "gp", "float32"), ("resnet-norm", "gp", "float32"),
        ("critic", "r1r2", "float32"),
    ):  # fmt: skip
        assert {(net, penalty, n, dtype) for n in (32, 64)} <= points
    assert {"eager", "last", "last-compiled", "bare"} <= set(rows["critic"].bodies)
    assert rows["memory"].how == "memory"
    assert critic.rows_of(["resnet"]) == ["resnet", "resnet-norm"]
    assert critic.rows_of([]) == list(rows)
    with pytest.raises(UsageError, match="no row 'res'; there are critic"):
        critic.rows_of(["res"])


def test_the_critic_is_that_of_the_design():
    model = critic_cases.network(Case())
    assert [tuple(m.weight.shape) for m in model if isinstance(m, torch.nn.Conv2d)] == [
        (64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)
    ]  # fmt: skip
    assert critic_cases.describe(Case()) == "critic, 3x64x64, WGAN-GP, float32, batch 32"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("penalty", ["gp", "r1r2"])
@pytest.mark.parametrize("net", ["critic", "resnet", "resnet-norm"])
def test_every_body_computes_the_same(net, penalty, dtype):
    case = Case(net, penalty, dtype=dtype, **SMALL)
    for name in ("ours", "eager", "last"):
        body = critic_cases.body(case, name)
        assert set(critic_cases.check(case, name, body())) == {"error"}


def test_the_compiled_formulation_computes_the_same():
    body = critic_cases.Body(CASE, "last-compiled")
    body.compiled = body._functional  # what is compiled
    assert critic_cases.check(CASE, "last-compiled", body())["error"] < 1e-5


@pytest.mark.parametrize(("penalty", "rows"), [("gp", (9, 9, 3, 3)), ("r1r2", (6, 6, 6, 6))])
def test_bare_convolutions_are_the_fewest(penalty, rows):
    bare = critic_cases.Bare(replace(CASE, penalty=penalty))
    forward, backward = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default
    calls = [(f, args[0].shape[0], args[-1] if f is backward else None) for f, args in bare.calls]
    whole, weights, tangent, first = rows
    assert [n for f, n, _ in calls if f is forward] == [whole] * 4 + [tangent] * 4
    assert [n for f, n, mask in calls if f is backward and mask[0]] == [whole] * 3 + [first]
    assert [n for f, n, mask in calls if f is backward and mask[1]] == [weights] * 4
    assert bare() == {}
    assert critic_cases.check(CASE, "bare", {}) == {}


@pytest.mark.parametrize("wrong", ["0.weight", "9.bias", "missing", "nan"])
def test_a_body_that_is_wrong_is_refused(wrong, monkeypatch, few):
    true = critic_cases.Body.__call__

    def off(self):
        found = true(self)
        if self.name == "ours":
            if wrong == "missing":
                found.pop("0.weight")
            elif wrong == "nan":
                found["0.weight"] = found["0.weight"] * float("nan")
            else:
                found[wrong] = found[wrong] + 1
        return found

    monkeypatch.setattr(critic_cases.Body, "__call__", off)
    with pytest.raises(Refused, match=r"gancore, critic, .*float32"):
        critic_cases.check(CASE, "ours", critic_cases.body(CASE, "ours")())
    point = critic.measure_point(replace(critic.ROWS["critic"], seconds=0.001), CASE, {}, (1, 1))
    assert "refused" in point
    assert "refused: gancore" in critic.cells("times", {"case": "a critic", **point})[1]
    with pytest.raises(GancoreError, match=r"^refused: gancore"):
        critic.bench(critic.Asked(quick=True, rows=("critic",)))


def test_a_run_writes_what_its_table_says(few, tmp_path):
    out = tmp_path / "critic.json"
    shown = invoke("--quick", "--out", out)
    assert shown.exit_code == 0, shown.output
    found = json.loads(out.read_text())
    assert {"device", "cpu", "threads", "versions", "commit", "quick"} <= set(found)
    assert [row["row"] for row in found["rows"]] == list(critic.ROWS)
    assert set(found["rows"][0]["points"][0]["bodies"]) == {"ours", "eager", "last", "bare"}
    assert found["rows"][1]["points"][0]["left_out"] == {"last-compiled": "left out of a quick run"}
    again = invoke("--table", "--out", out)
    assert again.stdout.splitlines()[2:] == shown.stdout[shown.stdout.index("\ncritic\n") + 1 :].splitlines()
    assert invoke("--quick", "--row", "critic", "--out", out).exit_code == 0
    assert json.loads(out.read_text())["rows"][1:] == found["rows"][1:]


def test_a_quick_run_writes_nothing_by_itself(few, tmp_path, monkeypatch):
    monkeypatch.setattr(critic, "path_of", lambda device: tmp_path / "critic.json")
    assert invoke("--quick", "--row", "critic").exit_code == 0
    assert not list(tmp_path.iterdir())
    assert invoke("--table").exit_code == 3


@pytest.mark.skipif(not peak.known() or torch.cuda.is_available(), reason="the process is not told its peak")
def test_a_process_of_its_own_tells_its_peak():
    row = critic.Row((Case(batch=8, width=16, side=32),), ("ours", "last"), "memory")
    point = critic.measure_point(row, row.cases[0], {})
    assert all(0 < b["peak"] < 100 for b in point["bodies"].values())
    assert "peak" in critic.cells("memory", {"case": "a critic", **point})[1]
