"""The command line in-process: every command, every exit code, what is written and what is not."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import gancore
from gancore.cli.app import app
from gancore.cli.catalogue import describe
from gancore.core.registry import ENTRIES, demo
from gancore.recipes import get, names
from gancore.trainer import Trainer

TINY = ("--data", "ring8", "--steps", "20", "--batch-size=32", "--save-every", "20")
Command = Callable[..., Result]


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    if result.exit_code and words[0] != "show":
        assert result.stderr.startswith("gancore: ")
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.output
    return result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    names()  # so that what is put back is everything
    before = dict(ENTRIES)
    yield tmp_path
    ENTRIES.clear()
    ENTRIES.update(before)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on points."""
    out = tmp_path_factory.mktemp("runs") / "points"
    assert invoke("train", "gan-ns", *TINY, "--out", out).exit_code == 0
    return out


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished conditional run on images."""
    out = tmp_path_factory.mktemp("runs") / "labelled"
    words = ("--data", "digits8", "--steps", "4", "--batch-size", "16", "--save-every", "4")
    assert invoke("train", "cgan", *words, "--out", out).exit_code == 0
    return out


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# -- catalogue ------------------------------------------------------------------------------------------------------------


def test_list_groups_by_family_and_gives_json():
    shown = invoke("list").stdout
    assert "ipm (recipes)" in shown
    assert "WGAN-GP, Gulrajani et al. 2017" in shown
    found = json.loads(invoke("list", "--json").stdout)
    assert {"id": "wgan-gp", "kind": "recipe", "family": "ipm"}.items() <= next(e for e in found if e["id"] == "wgan-gp").items()
    assert {e["kind"] for e in json.loads(invoke("list", "--kind", "metric", "--json").stdout)} == {"metric"}


def test_show_tells_objective_players_and_parameters():
    shown = invoke("show", "wgan-gp").stdout
    assert "(|grad f(u)| - 1)^2" in shown
    facts = json.loads(invoke("show", "wgan_gp", "--json").stdout)
    assert facts["paper"] == "arXiv:1704.00028"
    assert set(facts["players"]) == {"G", "D"}
    assert all(count > 1000 for count in facts["players"].values())
    wanted = {"name": "critic_steps", "type": "a whole number", "default": 5, "doc": "critic updates for each one of G."}
    assert wanted in facts["parameters"]
    assert json.loads(invoke("show", "fid", "--json").stdout)["kind"] == "metric"
    assert invoke("show", "nothing-like-it").exit_code == 2


@pytest.mark.parametrize(("name", "paper"), [("mmd-2sample", "JMLR 13:723"), ("em-duality", "arXiv:1701.07875")])
def test_show_tells_a_demonstrations_objective_paper_and_parameters_once(name: str, paper: str):
    facts = json.loads(invoke("show", name, "--json").stdout)
    assert (facts["kind"], facts["paper"], facts["players"]) == ("demo", paper, {})
    assert "=" in facts["doc"] or "max" in facts["doc"]
    shown = invoke("show", name).stdout
    assert f"Paper: {paper}" in shown
    for parameter in facts["parameters"]:
        assert parameter["doc"], parameter["name"]
        assert f"{parameter['name']}: {parameter['doc']}" not in shown


@pytest.mark.parametrize("name", [name for name in names() if get(name).kind != "metric"])
def test_show_tells_everything_of_every_entry(name: str):
    facts = describe(get(name))
    assert facts["paper"]
    assert len(facts["doc"].splitlines()) > 2, "its objective is told as a formula"
    assert all(parameter["doc"] for parameter in facts["parameters"])
    assert bool(facts["players"]) == (facts["kind"] == "recipe")


def test_help_documents_exit_codes_options_and_parameters():
    top = invoke("--help").stdout
    for line in ("0    done", "2    usage", "3    data", "4    diverged", "130  interrupted"):
        assert line in top
    general = invoke("train", "--help").stdout
    for option in gancore.core.Options.names():
        assert f"--{option.replace('_', '-')}" in general
    assert "--critic-steps" not in general
    own = " ".join(invoke("train", "wgan-gp", "--help").stdout.split())
    assert "--critic-steps <a whole number> critic updates for each one of G. [5]" in own


# -- train ----------------------------------------------------------------------------------------------------------------


def test_train_leaves_everything_and_says_where(points: Path):
    assert files(points) == {
        "run.json", "log.jsonl", "checkpoint.pt", "metrics.json", "report.html", "plots/losses.png", "plots/metrics.png",
        "samples/step-00000020.png",
    }  # fmt: skip
    assert set(json.loads((points / "metrics.json").read_text())) == {"modes", "hq"}
    assert len(gancore.load(points).metrics) == 1


def test_train_chooses_free_folders_and_prints_plain_lines(here: Path):
    first, second = (invoke("train", "gan_ns", *TINY, "--log-every", "10") for _ in range(2))
    assert [path.name for path in sorted((here / "runs").iterdir())] == ["gan-ns", "gan-ns-2"]
    lines = first.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["step", "10/20"], ["step", "20/20"]]
    assert "\x1b" not in first.stdout
    assert [path.name for path in (here / "runs/gan-ns/samples").iterdir()] == ["step-00000020.png"]
    assert [line.split() for line in second.stdout.splitlines()[-3:]] == [
        ["samples", "runs/gan-ns-2/samples/step-00000020.png"],
        ["metrics", "runs/gan-ns-2/metrics.json"],
        ["report", "runs/gan-ns-2/report.html"],
    ]


def test_python_does_what_the_command_does(here: Path, points: Path):
    run = gancore.train("gan-ns", data="ring8", steps=20, batch_size=32, save_every=20, out="runs/x")
    assert files(here / "runs/x") == files(points)
    assert run.sample(7, seed=1).equal(gancore.load(points).sample(7, seed=1))
    gancore.train("gan-ns", data="ring8", steps=2, batch_size=32)
    assert [path.name for path in (here / "runs").iterdir()] == ["x"]


@pytest.mark.parametrize("extra", [(), ("--out", "runs/x")])
def test_dry_run_shows_the_plan_and_writes_nothing(here: Path, extra: tuple[str, ...]):
    result = invoke("train", "vaegan", *TINY, *extra, "--dry-run")
    assert result.exit_code == 0
    for words in ("batch_size   32", "optimiser states", "activations", "step on cpu", "nothing was written"):
        assert words in result.stdout
    assert "<- 1 " in result.stdout  # a route
    assert not list(here.iterdir())


def test_unknown_names_get_the_nearest_ones():
    for words, hint in (
        (("train", "wgn-gp"), "did you mean wgan-gp"),
        (("train", "wgan-gp", "--penlty", "3"), "did you mean penalty"),
        (("train", "wgan-gp", "--step=3"), "did you mean steps"),
        (("train", "wgan-gp", "--data", "rng8"), "did you mean ring8"),
        (("trian", "wgan-gp"), "did you mean train"),
        (("train", "fid"), "use `gancore evaluate`"),
        (("demo", "wgan-gp"), "use `gancore train`"),
    ):
        result = invoke(*words)
        assert hint in result.stderr
        assert result.exit_code == (3 if "--data" in words else 2)


@pytest.mark.parametrize(
    "words", [("--steps", "ten"), ("--steps",), ("--steps", "0"), ("-s", "3"), ("ring8",), ("--resume=maybe",), ("--resume",)]
)
def test_bad_values_are_usage_errors(here: Path, words: tuple[str, ...]):
    assert invoke("train", "gan-ns", *words).exit_code == 2
    assert not list(here.iterdir())


def test_options_come_first_or_alone_are_refused():
    assert "recipe comes first" in invoke("train", "--steps", "3").stderr
    assert invoke("sample", "--nonsense").exit_code == 2


# -- data, divergence, output -----------------------------------------------------------------------------------------------


def test_bad_data_is_one_line_and_code_3(here: Path):
    np.save(here / "whole.npy", np.zeros((100, 2), np.float32))
    (here / "cut.npy").write_bytes((here / "whole.npy").read_bytes()[:300])
    for recipe, path in (("gan-ns", "none.npy"), ("gan-ns", "cut.npy"), ("cgan", "whole.npy")):
        result = invoke("train", recipe, "--data", path, "--steps", 2)
        assert result.exit_code in ((2, 3) if recipe == "cgan" else (3,))
        assert path in result.stderr or recipe == "cgan"
    assert not (here / "runs").exists()


def test_divergence_is_code_4_and_keeps_the_last_checkpoint(here: Path):
    result = invoke("train", "gan-ns", *TINY, "--lr", "1e30", "--out", "x", "--log-every", "1")
    assert result.exit_code == 4
    assert "there is no earlier checkpoint" in result.stderr
    assert not (here / "x/checkpoint.pt").exists()


def test_output_that_cannot_be_written_is_code_1(here: Path, labelled: Path):
    (here / "file").write_text("")
    result = invoke("train", "gan-ns", *TINY, "--out", "file/x")
    assert (result.exit_code, "cannot write file/x" in result.stderr) == (1, True)
    for words in (
        ("sample", labelled, "--out", "no/such/x.png"),
        ("sample", labelled, "--out", "no/such/x.npy"),
        ("export", labelled, "--format", "safetensors", "--out", "no/such/x"),
    ):
        result = invoke(*words)
        assert (result.exit_code, "cannot write no/such/x" in result.stderr) == (1, True)


@pytest.fixture
def interrupted(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that Ctrl-C stopped after step 7."""
    step = Trainer.step

    def counting(trainer: Trainer) -> None:
        step(trainer)
        if trainer.steps_done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", counting)
        result = invoke("train", "gan-ns", *TINY, "--out", "x")
    assert result.exit_code == 130
    assert "interrupted at step 7; the checkpoint is x/checkpoint.pt" in result.stderr
    assert "gancore train gan-ns --out=x --resume" in result.stderr
    return here / "x"


def test_resume_goes_on_as_if_nothing_had_happened(interrupted: Path, points: Path):
    assert invoke("train", "gan-ns", "--out", "x", "--resume").exit_code == 0
    assert gancore.load("x").sample(9).equal(gancore.load(points).sample(9))
    assert files(interrupted) == files(points)


def test_resume_refuses_what_conflicts(interrupted: Path):
    for words, hint in (
        (("gan-ns", *TINY, "--out", "x"), "holds a run"),
        (("gan-ns", "--out", "x", "--resume", "--steps", "30"), "steps=20"),
        (("gan-ns", "--out", "x", "--resume", "--lr", "1"), "lr="),
        (("lsgan", "--out", "x", "--resume"), "recipe='gan-ns'"),
        (("gan-ns", "--out", "x", "--resume", "--dry-run"), "dry run"),
        (("gan-ns", "--resume"), "needs out"),
    ):
        result = invoke("train", *words)
        assert (result.exit_code, hint in result.stderr) == (2, True), result.stderr
    assert invoke("train", "gan-ns", "--out", "elsewhere", "--resume").exit_code == 3


def test_a_full_disk_loses_nothing_that_was_saved(interrupted: Path):
    size = (interrupted / "checkpoint.pt").stat().st_size
    before, limits = files(interrupted), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        result = invoke("train", "gan-ns", "--out", "x", "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (result.exit_code, "cannot write x/checkpoint.pt: File too large" in result.stderr) == (1, True)
    assert gancore.load("x").trainer.steps_done == 7
    assert files(interrupted) == before | {"log.jsonl"}  # no half-written file is left
    assert invoke("train", "gan-ns", "--out", "x", "--resume").exit_code == 0


def test_damaged_runs_are_one_line_and_code_3(interrupted: Path):
    checkpoint, described = interrupted / "checkpoint.pt", interrupted / "run.json"
    whole, text = checkpoint.read_bytes(), described.read_text()
    sample = ("sample", "x", "--out", "s.npy")
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert "checkpoint.pt is damaged" in invoke(*sample).stderr
    checkpoint.unlink()
    assert "no checkpoint" in invoke(*sample).stderr
    checkpoint.write_bytes(whole)
    for broken in (text[:50], "[]", "{}"):
        described.write_text(broken)
        result = invoke(*sample)
        assert (result.exit_code, "run.json is damaged" in result.stderr) == (3, True)
    described.write_text(text.replace('"width": 0', '"width": 16'))
    result = invoke(*sample)
    assert (result.exit_code, "does not fit gan-ns" in result.stderr) == (3, True)
    described.write_text(text)
    assert invoke(*sample).exit_code == 0


# -- results --------------------------------------------------------------------------------------------------------------


def test_sample_writes_pictures_and_values(here: Path, points: Path, labelled: Path):
    for run, out in ((points, "p.png"), (labelled, "d.png"), (labelled, "d.npy"), (labelled, "e.npy")):
        assert invoke("sample", run, "-n", 20, "--out", out).exit_code == 0
    assert invoke("sample", labelled, "-n", 20, "--seed", 1, "--out", "f.npy").exit_code == 0
    assert invoke("sample", labelled, "-n", 20, "--y", 3, "--out", "g.npy").exit_code == 0
    with Image.open("d.png") as picture:
        assert picture.width > 4 * picture.height  # two rows of ten classes
    d, e, f, g = (np.load(f"{name}.npy") for name in "defg")
    assert d.shape == (20, 1, 8, 8)
    assert np.array_equal(d, e)
    assert not np.array_equal(d, f)
    assert np.array_equal(g[3], d[3])  # by default sample 3 is of class 3, and the noise is the same
    assert not np.array_equal(g[4], d[4])


def test_sample_refuses_what_cannot_be(points: Path, labelled: Path, here: Path):
    for words in ((points, "--y", 1, "--out", "x.npy"), (labelled, "--y", 10, "--out", "x.npy"), (points, "--out", "x.gif")):
        assert invoke("sample", *words).exit_code == 2
    assert not list(here.iterdir())


def test_evaluate_gives_the_runs_own_scores_or_those_named(points: Path, labelled: Path):
    own = json.loads(invoke("evaluate", points, "--json").stdout)
    assert own == {key.removeprefix("metric/"): v for key, v in gancore.load(points).metrics[-1].items() if "metric/" in key}
    found = json.loads(invoke("evaluate", labelled, "fid", "precision-recall", "--count", "200", "--json").stdout)
    assert list(found) == ["fid", "precision-recall.precision", "precision-recall.recall", "judge-accuracy"]
    assert 0.9 < found["judge-accuracy"] <= 1
    assert found["fid"] > 1
    assert "modes.covered" in invoke("evaluate", points, "modes").stdout


def test_evaluate_refuses_what_does_not_suit(points: Path, labelled: Path):
    for words, hint in (
        ((points, "gan-ns"), "use `gancore train`"),
        ((points, "fod"), "did you mean fid"),
        ((labelled, "modes"), "modes needs centres"),
        ((points, "inception-score"), "does not suit ring8"),
        ((labelled, "kid", "--count", "10"), "kid does not suit"),
    ):
        result = invoke("evaluate", *words)
        assert (result.exit_code, hint in result.stderr) == (2, True), result.stderr
    assert invoke("evaluate", "nowhere").exit_code == 3


def test_report_is_written_again(points: Path):
    (points / "report.html").unlink()
    assert invoke("report", points).stdout.strip() == str(points / "report.html")
    assert (points / "report.html").is_file()


def test_demo_prints_its_figures_and_saves_its_picture(here: Path):
    def double_it(value: float = 2.0, seed: int = 0) -> tuple[dict[str, float], Image.Image]:
        """value: what is doubled."""
        return {"doubled": 2 * value}, Image.new("RGB", (4, 4))

    demo(double_it)
    assert "doubled  6" in invoke("demo", "double-it", "--value", "3", "--seed=1").stdout
    with Image.open("double-it.png") as picture:
        assert picture.size == (4, 4)
    assert invoke("demo", "double-it", "--vale", "3").exit_code == 2
    assert invoke("demo").exit_code == 0
    assert "use `gancore demo`" in invoke("train", "double-it").stderr


def test_doctor_reports_and_has_a_remedy_for_what_is_absent(monkeypatch: pytest.MonkeyPatch):
    import gancore.doctor

    def absent(package: str) -> str:
        raise gancore.doctor.PackageNotFoundError(package)

    monkeypatch.setattr(gancore.doctor, "version", absent)
    found = {f["part"]: f for f in json.loads(invoke("doctor", "--json").stdout)}
    assert {"python", "torch", "cpu", "native kernels", "triton kernels", "C++ compiler", "rich"} <= set(found)
    assert found["rich"]["remedy"] == 'pip install "gancore[train]"'
    assert all(f["ok"] or f["remedy"] for f in found.values())
    assert 'pip install "gancore[onnx]"' in invoke("doctor").stdout


def test_a_missing_extra_is_one_line(points: Path, here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    result = invoke("export", points, "--format", "safetensors", "--out", "x")
    assert (result.exit_code, 'pip install "gancore[train]"' in result.stderr) == (1, True)
