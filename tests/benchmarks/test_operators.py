"""`gancore bench operators` and `batch`: what is compared and refused, what a comparison and a page say. No clock is asserted."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gancore import kernels
from gancore.benchmarks import batch, compare, operators, page, peers, steps, timing
from gancore.benchmarks.suite import Asked
from gancore.cli.app import app
from gancore.kernels._spec import specs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "ops.json"
    words = ["bench", "operators", "--quick", "--row", "interpolate", "--row", "dcgan", "--out", str(path), "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return path


def test_rows_are_all_operators_and_the_steps():
    assert set(operators.names()) == {n for n, s in specs().items() if s.bench} | {"dcgan", "wgan-gp", "mmd-gan"}


def test_a_result_holds_what_was_measured_and_on_what(result):
    found = json.loads(result.read_text())
    assert {"device", "versions", "commit", "machine", "rows"} <= found.keys()
    works = [p["work"] for row in found["rows"] if row["row"] == "interpolate" for p in row["points"]]
    assert works == ["forward", "backward", "double backward"]
    for row in found["rows"]:
        for p in row["points"]:
            ours = p["bodies"]["ours"]
            assert ours["quartiles"][0] <= ours["ms"] <= ours["quartiles"][1]
            if p["work"] == "backward":
                assert "compiled" in p["bodies"] or "compiler" in p["left_out"]["compiled"]
            else:
                assert p["left_out"].get("compiled") == "left out of a quick run"
        assert ("large" in row["classes_left_out"]) == (row["row"] == "interpolate")
    eager = next(p for row in found["rows"] for p in row["points"] if "eager" in p["bodies"])
    assert {"mb", "of_copy", "of_rate", "bytes", "error"} <= eager["bodies"]["eager"].keys()
    assert all(len(line) == len(operators.HEADINGS) for line in operators.lines(found))


def test_what_is_shown_of_an_operator_exists():
    """A class that an operator no longer has would be left out in silence."""
    for name, classes in operators.SHOWN.items():
        spec = specs()[name]
        assert [b.shape_class for b in operators.chosen(spec, Asked())] == list(classes)
        assert [b.shape_class for b in operators.chosen(spec, Asked(quick=True))] == [classes[0]]
        assert operators.chosen(spec, Asked(every=True)) == list(spec.bench)


def test_bytes_and_operations_are_those_of_the_work():
    spec = specs()["interpolate"]
    bench = spec.bench[0]
    tensors = bench.draw(torch.Generator().manual_seed(0))
    bodies = {"ours": {}, "eager": {}}
    n = next(iter(tensors.values())).numel()
    assert operators._counts(spec, bench, tensors, 0, bodies) == n
    assert bodies["eager"]["bytes"] == spec.bytes_moved(**tensors, **bench.options)
    (row,) = operators._shares({"ours": {"ms": 1000.0}}, 50, 20.0, {"copy": 100.0, "rate": 40.0}).values()
    assert (row["of_copy"], row["of_rate"]) == (0.5, 0.5)


def test_the_page_stands_alone(result):
    text = result.with_suffix(".html").read_text()
    assert "https://" not in text
    assert not re.findall(r"(?:src|href)=.(?!data:)", text)
    assert "interpolate" in text
    assert "dcgan" in text
    assert text.count("<circle") == 3


def test_curves_join_sizes_of_the_same_work():
    """Two sizes of one class and one of another; a peer without memory; one colour a body in all panels."""

    def point(name: str, shape: str, ms: float) -> dict:
        bodies = {"ours": {"ms": ms, "mb": 1.0}, "native": {"ms": 2 * ms}}
        bodies = {n: {**b, "quartiles": [ms, ms], "ratio": 1.0} for n, b in bodies.items()}
        return {"class": name, "case": name, "shape": shape, "work": "backward", "dtype": "float32", "bodies": bodies}

    points = [point("few/small", "2 x 5", 1.0), point("many/small", "9 x 9", 5.0), point("few/large", "20 x 50", 3.0)]
    (curve, _), (held, across) = (page._scaling({"row": "softclip", "points": points}, what) for what in ("time", "memory"))
    assert {s.name for s in curve.series} == {"ours", "native"}
    assert all(len(s.points) == 2 for s in curve.series)
    assert ([s.name for s in held.series], across) == (["ours"], "the first input's size")
    assert page._scaling({"row": "softclip", "points": points[:2]}, "time") is None
    step = {"work": "step", "dtype": "float32", "shape": "8", "bodies": {"ours": {"ms": 1.0, "samples_per_second": 8.0}}}
    networks = [{**step, "case": "batch 8, width 16"}, {**step, "shape": "16", "case": "batch 16, width 32"}]
    assert page._scaling({"row": "dcgan", "points": networks}, "time") is None
    assert page._colours([{"points": points}], operators.LABELS) == {"ours": 0, "native": 1}


def test_a_wrong_body_is_refused(monkeypatch):
    spec = specs()["interpolate"]
    monkeypatch.setattr(operators, "call", wrong(operators.call, spec))
    asked = Asked(quick=True)
    points = list(operators._operator(spec, operators.chosen(spec, asked), torch.device("cpu"), asked, {"copy": 1e9, "rate": 1e9}))
    assert all("error" in p["refused"] for p in points)


def wrong(call, spec):
    """Of gancore's own function a result that is off by a thousandth."""

    def made(function, *rest):
        run = call(function, *rest)
        return run if function is not spec.fn else lambda: [1.001 * t for t in run()]

    return made


def test_slower_is_what_lies_above_the_old_spread(result):
    old = json.loads(result.read_text())
    assert compare.slower(old, old) == ["nothing got slower by more than the spread, of 4 points in both results"]
    new = copy.deepcopy(old)
    body = new["rows"][0]["points"][1]["bodies"]["ours"]
    body["ms"], body["quartiles"] = 3 * body["ms"], [3 * t for t in body["quartiles"]]
    (line,) = compare.slower(old, new)
    assert "interpolate" in line
    assert "(3x)" in line
    # Slower by less than both spreads is as fast.
    body["quartiles"] = [old["rows"][0]["points"][1]["bodies"]["ours"]["quartiles"][1], body["quartiles"][1]]
    assert compare.slower(old, new) == compare.slower(old, old)


def test_no_tensor_escapes_the_check():
    good, nan = torch.ones(3), torch.full((3,), float("nan"))
    assert operators.worst([good, good], [good, good]) == 0
    for found in ([good, nan], [nan, good], [good], [good, torch.ones(1, 3)], [good, good / 0]):
        assert operators.worst(found, [good, good]) == float("inf")


def test_a_bound_follows_what_plain_pytorch_loses_but_not_far():
    given = [(1e-4, 1e-7), (1e-4, 1.1e-4), (1e-4, 0.5), (1e-4, float("inf")), (1e-4, float("nan"))]
    assert [operators.allowed(*pair) for pair in given] == pytest.approx([1e-4, 2.2e-4, 1e-3, 1e-4, 1e-4])


def test_what_is_gone_and_another_device_are_told(result):
    old = json.loads(result.read_text())
    new = copy.deepcopy(old)
    new["device"] = "another"
    point = new["rows"][0]["points"][0]
    del point["bodies"]
    first, second = compare.slower(old, new)
    assert "another" in first
    assert second == f"gone: {new['rows'][0]['row']}: {point['case']}"


@pytest.mark.parametrize(("name", "calls"), [("compiled", 3), ("tuned", 3), ("x-compiled", 3), ("eager", 1)])
def test_compiled_bodies_are_warm_before_they_are_timed(name, calls, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 2.0 * next(clock))
    made = []
    timed = lambda bodies, *rest: {key: {"ms": 1.0, "quartiles": [1.0, 1.0]} for key in bodies}
    monkeypatch.setattr(timing, "alternate", timed)
    timing.compare([name], lambda _: lambda: made.append(0), lambda *_: {}, 0.0, {}, (3, 8))
    assert len(made) == calls


def test_second_derivatives_reach_what_comes_from_above():
    x = torch.randn(3, 4, dtype=torch.float64)
    square = lambda x: x * 2
    by_x, by_seed = operators.call(square, {"x": x}, {}, 2)()
    assert not by_x.any()
    seed = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
    assert torch.allclose(by_seed, 8 * seed)


def test_the_curve_of_throughput(tmp_path):
    words = ["bench", "batch", "--quick", "--row", "dcgan", "--out", str(tmp_path / "b.json"), "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [p["shape"] for p in row["points"]] == ["4", "8"]
    assert row["points"][1]["bodies"]["ours"]["mb"] > row["points"][0]["bodies"]["ours"]["mb"]
    for point in row["points"]:
        ours = point["bodies"]["ours"]
        assert ours["samples_per_second"] == pytest.approx(int(point["shape"]) / (1e-3 * ours["ms"]), rel=1e-3)
    assert "samples a second" in (tmp_path / "b.html").read_text()
    assert batch.lines({"rows": [row]})[0][:2] == ("dcgan", "4")


def test_a_page_without_points():
    empty = {"device": "d", "versions": {"torch": "t"}, "commit": "", "machine": None, "quick": False, "rows": []}
    assert "gancore" in page.render(empty)


def test_the_gpu_script_takes_stages_and_refuses_others(tmp_path):
    bash = shutil.which("bash")
    script = str(ROOT / "benchmarks/gpu.sh")
    done = subprocess.run([bash, script, "dance"], capture_output=True, text=True)
    assert (done.returncode, "unknown stage dance" in done.stderr) == (2, True)
    environment = {"PATH": "/usr/bin:/bin", "OUT": str(tmp_path / "out"), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([bash, script, "--device", "cpu", "build"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^build +ok", done.stdout, re.M)
    assert (tmp_path / "out/build.log").exists()
    done = subprocess.run([bash, script, "--device", "cpu", "tune"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert re.search(r"^tune +exit 2 .*tune needs a GPU", done.stdout, re.M)
    assert not (tmp_path / "out/tiles.json").exists()


def test_the_gpu_script_parts_operators_and_steps(tmp_path):
    """With an interpreter that only says what it was asked to measure."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "OUT": str(tmp_path / "out"), "PYTHON": str(python)}
    command = [shutil.which("bash"), str(ROOT / "benchmarks/gpu.sh"), "--device", "cpu", "operators", "steps"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [re.findall(r"--row (\S+)", (tmp_path / f"out/{stage}.log").read_text()) for stage in ("operators", "steps")]
    assert asked == [[name for name in operators.names() if name not in steps.STEPS], list(steps.STEPS)]


def test_other_packages_compute_what_the_operators_do(monkeypatch):
    """KeOps' formulas on dense tensors in place of its lazy ones, torch-fidelity as it is."""
    monkeypatch.setattr(peers, "_keops", lambda: lambda t: t)
    generator = torch.Generator().manual_seed(3)
    x, y, v = (torch.randn(9, n, generator=generator, dtype=torch.float64) for n in (4, 4, 2))
    gaussians = kernels.gaussian([1.0, 2.0, 4.0], weights=[1.0, 0.5, 2.0])
    for name, given in (("mmd2", (x, y)), ("kernel_dot", (x, y, v))):
        wanted = getattr(kernels, name)(*given, gaussians)
        torch.testing.assert_close(peers.of_operator("keops", name)(*given, gaussians), wanted)
    if peers.missing("fidelity", torch.device("cpu")) is None:
        wanted = kernels.mmd2(x, y, kernels.polynomial())
        torch.testing.assert_close(peers.of_operator("fidelity", "mmd2")(x, y, kernels.polynomial()), wanted)


def test_who_computes_something_else_is_left_out():
    gaussians, cubes = kernels.gaussian([1.0]), kernels.polynomial()
    assert peers.unfit("keops", "mmd2", gaussians, "float32", 2) is None
    assert peers.unfit("fidelity", "mmd2", cubes, "float32", 0) is None
    for case in (
        ("keops", "mmd2", gaussians, "bfloat16", 0),
        ("keops", "mmd2", kernels.laplacian([1.0]), "float32", 0),
        ("fidelity", "mmd2", cubes, "float32", 1),
        ("fidelity", "mmd2", gaussians, "float32", 0),
        ("fidelity", "kernel_dot", cubes, "float32", 0),
    ):
        assert peers.unfit(*case)
