"""Runs from Python: names and options, the folder and what is in it, samples that disturb nothing."""

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import gancore
from gancore import arguments, checkpoint, data, evaluation, recipes, runs
from gancore.core import DataError, Diverged, Options, UsageError
from gancore.core.registry import ENTRIES
from tests.gancore.toys import differing

SMALL = {"data": "ring8", "steps": 4, "batch_size": 8, "width": 8, "log_every": 2, "save_every": 2}


@pytest.fixture(autouse=True)
def _no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "scores", lambda sample, dataset, count: {"spread": float(sample(16).std())})


def train(name: str = "gan-ns", **options: Any) -> runs.Run:
    return gancore.train(name, **{**SMALL, **options})


def test_wrong_names_and_values_are_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "r"
    for words, name, options in [
        ("did you mean gan-ns", "gan-nss", {}),
        ("unknown option 'batchsize'; did you mean batch_size", "gan-ns", {"batchsize": 3}),
        ("unknown option 'penalty'", "gan-ns", {"penalty": 3.0}),
        ("batch_size must be a whole number", "gan-ns", {"batch_size": "big"}),
        ("precision must be one of fp32, bf16, fp16", "gan-ns", {"precision": "fp64"}),
        ("device must be auto", "gan-ns", {"device": "warp"}),
        ("no data set or path of this name; did you mean ring8", "gan-ns", {"data": "ring"}),
        ("4 times a power of two", "dcgan", {}),
        ("needs labels|data with labels", "cgan", {"data": unlabelled(tmp_path)}),
    ]:
        with pytest.raises((UsageError, DataError), match=words):
            train(name, out=str(out), **options)
        assert not out.exists()


def unlabelled(folder: Path) -> str:
    import numpy

    numpy.save(folder / "plain.npy", numpy.random.default_rng(0).normal(size=(32, 2)).astype("float32"))
    return str(folder / "plain.npy")


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    run = train("wgan-gp", out=str(tmp_path / "deep" / "r"), penalty=5, critic_steps=2, seed=3)
    folder = tmp_path / "deep" / "r"
    assert {"run.json", "log.jsonl", "checkpoint.pt"} <= {p.name for p in folder.iterdir()}
    assert not [p.name for p in folder.iterdir() if p.name.startswith("checkpoint.pt.")]
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records == run.metrics
    assert [r["step"] for r in records] == [2, 4]
    expected = {"critic/critic", "critic/penalty", "generator/generator", "metric/spread", "speed", "seconds"}
    assert all(expected <= set(r) for r in records)
    about = json.loads((folder / "run.json").read_text())
    assert about["parameters"] == {"penalty": 5.0, "critic_steps": 2, "lr": 1e-4}
    assert (about["recipe"], about["seed"], about["options"]["steps"]) == ("wgan-gp", 3, 4)
    assert about["data"]["digest"] == data.load("ring8").digest()
    assert about["versions"]["torch"] == torch.__version__
    assert about["players"]["G"] == sum(p.numel() for p in run.nets["G"].parameters())
    rows = [(p["phase"], p["repeats"], p["routes"]) for p in about["phases"]]
    assert rows == [("critic", 2, ["D <- 1 critic + 5 penalty"]), ("generator", 1, ["G <- 1 generator"])]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("wgan-gp", {"penalty": 0.1, "lr": 1e-3, "schedule": "linear", "ema": 0.9, "out": "a b"}),
        ("aae", {"posterior": "gaussian", "codes": 3, "clip": 1.5, "micro_batch": 4}),
        ("gan-ns", {}),
    ],
)
def test_the_command_of_a_run_repeats_it(name: str, given: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = runs.open_run(name, **{**SMALL, **given})
    words = shlex.split(run.describe()["command"])
    assert words[:3] == ["gancore", "train", name]
    entry = recipes.get(name)
    kinds = {**arguments._OPTION_TYPES, **{k: p.annotation for k, p in entry.parameters().items()}}
    pairs = (word.removeprefix("--").split("=", 1) for word in words[3:])
    parsed = {k.replace("-", "_"): v for k, v in pairs}
    options, parameters = arguments.split(entry, {k: arguments.parse(k, v, kinds[k]) for k, v in parsed.items()})
    assert (options, parameters) == (run.options, run.parameters)


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    train(out=str(tmp_path / "r"))
    before = {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir() if p.is_file()}
    with pytest.raises(UsageError, match="holds a run"):
        train(out=str(tmp_path / "r"), seed=1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir() if p.is_file()} == before


def test_resuming_takes_the_options_of_the_run_and_refuses_others(tmp_path: Path) -> None:
    out = str(tmp_path / "r")
    train("wgan-gp", out=out, penalty=5.0)
    again = runs.open_run("wgan-gp", out=out, resume=True, steps=4, penalty=5)
    assert again.parameters["penalty"] == 5.0
    assert again.options.width == 8
    assert again.trainer.steps_done == 4
    for words, name, options in [
        ("steps=4, not 9", "wgan-gp", {"steps": 9}),
        ("penalty=5.0, not 6.0", "wgan-gp", {"penalty": 6.0}),
        ("recipe='wgan-gp', not 'gan-ns'", "gan-ns", {}),
    ]:
        with pytest.raises(UsageError, match=words):
            runs.open_run(name, out=out, resume=True, **options)
    with pytest.raises(UsageError, match="resume needs out"):
        runs.open_run("wgan-gp", resume=True)
    with pytest.raises(DataError, match="holds no run"):
        runs.open_run("wgan-gp", out=str(tmp_path / "absent"), resume=True)


def test_resuming_on_changed_data_is_refused(tmp_path: Path) -> None:
    train(out=str(tmp_path / "r"))
    about = json.loads((tmp_path / "r" / "run.json").read_text())
    about["data"]["digest"] = "0" * 64
    (tmp_path / "r" / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="ring8 has changed"):
        runs.open_run("gan-ns", out=str(tmp_path / "r"), resume=True)
    gancore.load(tmp_path / "r").sample(2)


def test_a_loaded_run_samples_and_scores_as_the_trained_one(tmp_path: Path) -> None:
    run = train("began", out=str(tmp_path / "r"))
    loaded = gancore.load(tmp_path / "r")
    assert torch.equal(run.sample(6, seed=4), loaded.sample(6, seed=4))
    assert loaded.metrics == run.metrics
    assert run.evaluate() == loaded.evaluate()
    assert not differing(run.trainer.state_dict(), loaded.trainer.state_dict())


def test_samples_are_repeatable_and_disturb_nothing() -> None:
    run = train("dcgan", data="digits", size=16, width=4, steps=1)
    run.nets["G"].train()
    run.nets["G"].norms[0].eval()
    modes = {name: m.training for name, m in run.nets.named_modules()}
    before, random = run.trainer.state_dict(), torch.get_rng_state()
    kept = {k: v.clone() for k, v in run.trainer.nets.state_dict().items()} | {
        f"mean/{k}": v.clone() for k, v in run.nets.state_dict().items()
    }
    a, b, c = run.sample(5, seed=1), run.sample(5, seed=1), run.sample(5, seed=2)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (5, 1, 16, 16)
    assert not a.requires_grad
    run.evaluate()
    assert torch.equal(random, torch.get_rng_state())
    assert modes == {name: m.training for name, m in run.nets.named_modules()}
    after = dict(run.trainer.nets.state_dict()) | {f"mean/{k}": v for k, v in run.nets.state_dict().items()}
    assert not differing(kept, after)
    assert not differing(before, run.trainer.state_dict())


def test_samples_come_from_the_average() -> None:
    run = train("gan-ns", ema=0.9, steps=4)
    with torch.no_grad():
        for p in run.trainer.nets["G"].parameters():
            p.zero_()
    assert run.sample(4).abs().sum() > 0


def test_conditional_samples_take_labels_or_equal_shares() -> None:
    run = train("cgan", steps=1)
    three = torch.full((4,), 3)
    assert torch.equal(run.sample(4, y=three), run.sample(4, y=three))
    assert not torch.equal(run.sample(4, y=three), run.sample(4))
    assert torch.equal(run.sample(8), run.sample(8, y=torch.arange(8)))


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train("aae", posterior="universal")
    assert torch.equal(before, torch.get_rng_state())


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train()
    run.save()
    assert not list(tmp_path.iterdir())
    assert len(run.metrics) == 2


def test_divergence_leaves_what_was_saved(tmp_path: Path) -> None:
    run = runs.open_run("gan-ns", **{**SMALL, "steps": 6}, out=str(tmp_path / "r"))

    def spoil(run: runs.Run, record: dict) -> None:
        if record["step"] == 2:
            next(run.trainer.nets["D"].parameters()).data.fill_(math.inf)

    with pytest.raises(Diverged):
        run.train(spoil)
    loaded = gancore.load(tmp_path / "r")
    assert loaded.trainer.steps_done == 2
    assert [r["step"] for r in loaded.metrics] == [2]
    assert loaded.sample(3).isfinite().all()


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    train(out=str(tmp_path / "r"))
    with pytest.raises(DataError, match="holds no run"):
        gancore.load(tmp_path / "absent")
    (tmp_path / "r" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"checkpoint.pt is damaged"):
        gancore.load(tmp_path / "r")
    (tmp_path / "r" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run.json is damaged"):
        gancore.load(tmp_path / "r")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(checkpoint.OutputError, match="cannot write"):
        train(out=str(tmp_path / "file" / "r"))


def test_a_write_that_fails_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(out=str(tmp_path / "r"))
    before = (tmp_path / "r" / "checkpoint.pt").read_bytes()

    def full(state: dict, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(checkpoint.OutputError, match="No space left"):
        run.save()
    assert (tmp_path / "r" / "checkpoint.pt").read_bytes() == before
    assert not [p for p in (tmp_path / "r").iterdir() if p.name.startswith("checkpoint.pt.")]


OWN = '''"""Mine, Author 2020, arXiv:2001.00001. One line."""
from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe

@recipe
def own_in_runs(lr: float = 1e-3, widths: tuple[int, ...] = (1, 2)) -> Recipe:
    """lr: rate. widths: unused."""
    return adversarial(losses.hinge, adam(lr))
'''


def test_a_recipe_file_of_ones_own_reopens_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "own_in_runs.py"
    path.write_text(OWN)

    def forget() -> None:
        ENTRIES.pop("own-in-runs", None)
        sys.modules.pop("own_in_runs", None)

    try:
        run = train(str(path), out=str(tmp_path / "r"), widths=(3, 4))
        words = shlex.split(run.describe()["command"])
        assert words[2] == str(path)
        assert "--widths=3,4" in words
        forget()
        loaded = gancore.load(tmp_path / "r")
        assert loaded.parameters["widths"] == (3, 4)
        assert torch.equal(loaded.sample(3), run.sample(3))
        forget()
        runs.open_run(str(path), out=str(tmp_path / "r"), resume=True, widths=(3, 4))
    finally:
        forget()


def test_net_auto_is_the_toy_body_up_to_8x8() -> None:
    for name, size, body in (("ring8", None, "toy"), ("digits", 8, "toy"), ("digits", 16, "dcgan")):
        assert runs.specify(data.load(name, size=size), Options()).net == body
    assert runs.specify(data.load("digits", size=16), Options(net="toy")).net == "toy"
