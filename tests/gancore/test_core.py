"""The vocabulary: values that refuse what cannot work, the registry, the order of the data, arguments."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gancore import arguments, recipes
from gancore.adversarial import adversarial
from gancore.core import (
    DataError,
    Field,
    GancoreError,
    Optim,
    Options,
    Phase,
    Stage,
    State,
    UsageError,
    adam,
    classes,
    noise,
    recipe,
)  # fmt: skip
from gancore.core.registry import ENTRIES, Entry
from gancore.core.rows import Rows
from gancore.losses import Pair
from gancore.nets import generator
from tests.gancore.toys import CPU, Scalar, plain, trainer, vectors

LOSS = lambda nets, batch, state: {"t": nets["G"].value}


# -- phases, stages, recipes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"updates": {"G": {"t": 1.0}}}, "needs a loss or a step"),
        ({"updates": {"G": {"t": 1.0}}, "loss": LOSS, "step": LOSS}, "one of the two"),
        ({"updates": {"G": {"t": 1.0}}, "loss": LOSS, "repeats": 0}, "at least 1"),
        ({"updates": {"G": {"t": 1.0}}, "loss": LOSS, "every": 0}, "at least 1"),
        ({"updates": {"G": {}}, "loss": LOSS}, "routes no term to 'G'"),
    ],
)
def test_phases_that_cannot_be(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Phase("p", **settings)


def test_values_are_frozen() -> None:
    for value in (Phase("p", {}, LOSS), Stage("s", 1.0, []), adam(), Options()):
        with pytest.raises(AttributeError):
            value.name = "other"


def players() -> dict:
    return {"G": Scalar(), "D": Scalar()}


def good(name: str = "p", player: str = "G") -> Phase:
    return Phase(name, {player: {"t": 1.0}}, LOSS)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: plain(players, good(player="H")), "updates 'H', which is no player of G, D"),
        (lambda: plain(players, good(), optims={"D": adam()}), "updates 'G', which has no optimiser"),
        (lambda: plain(players, good(), good()), "two phases are named 'p'"),
        (lambda: plain(players, good(), data={"x": Field("x"), "pair": Field("z")}), "the recipe needs a column 'z' for 'pair'"),
    ],
)
def test_recipes_that_do_not_fit(build: Any, words: str) -> None:
    with pytest.raises(GancoreError, match=words):
        trainer(build())


def test_data_without_labels_is_refused_by_name() -> None:
    bare = vectors(classes=4)
    bare = type(bare)("bare", {"x": bare.fields["x"]})
    with pytest.raises(DataError, match="bare: the recipe needs labels for 'y', the data set has x"):
        trainer(plain(players, good(), data={"x": Field("x"), "y": Field("y")}), bare)


def test_adversarial_is_two_phases_with_named_terms() -> None:
    twice = lambda critic, real, fake: critic(real).square()
    pair = Pair(lambda real, fake: fake - real, lambda fake: -fake)
    built = adversarial(
        pair, {"G": adam(1e-3), "D": adam(2e-3)}, critic_steps=3, critic_terms={"drift": (0.5, twice)},
        generator_terms={"size": (2.0, lambda nets, batch, fake: fake.square().sum(1))},
    )  # fmt: skip
    critic, maker = built.stages[0].phases
    assert (critic.name, critic.repeats, dict(critic.updates)) == ("critic", 3, {"D": {"critic": 1.0, "drift": 0.5}})
    assert (maker.name, maker.repeats, dict(maker.updates)) == ("generator", 1, {"G": {"generator": 1.0, "size": 2.0}})
    run = trainer(built)
    with run.random():
        batch = run._draw(built.stages[0])
        fake = run.nets["G"](batch["z"])
        terms = critic.loss(run.nets, batch, run.state) | maker.loss(run.nets, batch, run.state)
    score = run.nets["D"]
    torch.testing.assert_close(terms["critic"], score(fake) - score(batch["x"]))
    torch.testing.assert_close(terms["drift"], score(batch["x"]).square())
    torch.testing.assert_close(terms["generator"], -score(fake))
    torch.testing.assert_close(terms["size"], fake.square().sum(1))
    assert run.optims["D"].param_groups[0]["lr"] == 2e-3


def test_draws_have_the_sizes_of_the_player() -> None:
    run = trainer(recipes.get("cgan").function())
    nets = run.nets
    assert noise("G")(nets, 5).shape == (5, nets["G"].latent)
    labels = classes("G")(nets, 4000)
    assert labels.dtype == torch.int64
    assert (torch.bincount(labels, minlength=4) / 4000 - 0.25).abs().max() < 0.04


def test_state_holds_buffers() -> None:
    state = State(k=0.5, table=torch.tensor([1, 2]))
    assert state.state_dict().keys() == {"step", "progress", "k", "table"}
    assert state.k.dtype == state.table.dtype == torch.float32
    assert state.step.dtype == torch.int64


def test_optim_keeps_its_rate_for_schedules() -> None:
    built = Optim(torch.optim.SGD, 0.3, {"momentum": 0.1}).build([torch.nn.Parameter(torch.zeros(1))])
    assert built.param_groups[0]["initial_lr"] == built.param_groups[0]["lr"] == 0.3


# -- order of the data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 10, 17, 40])
def test_every_row_comes_once_an_epoch(size: int) -> None:
    rows = Rows(10, 0, CPU)
    drawn = torch.cat([rows.next(size) for _ in range(30)])
    for epoch in drawn[: len(drawn) // 10 * 10].view(-1, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert len({tuple(e) for e in drawn[: len(drawn) // 10 * 10].view(-1, 10).tolist()}) > 1


def test_rows_resume_in_the_middle_and_at_the_end_of_an_epoch() -> None:
    for taken in (4, 10, 13):
        rows, again = Rows(10, 5, CPU), Rows(10, 5, CPU)
        rows.next(taken)
        again.load_state_dict(rows.state_dict())
        assert torch.equal(rows.next(25), again.next(25))
    assert not torch.equal(Rows(10, 5, CPU).next(10), Rows(10, 6, CPU).next(10))


# -- registry ---------------------------------------------------------------------------------------------------------------


def test_names_are_sorted_and_by_kind() -> None:
    assert recipes.names() == sorted(recipes.names())
    assert {"gan-ns", "wgan-gp", "began"} <= set(recipes.names("recipe")) <= set(recipes.names())
    assert recipes.get("wgan_gp") is recipes.get("wgan-gp", "recipe")
    assert recipes.get("wgan-gp").family == "ipm"
    assert recipes.get("wgan-gp").title.startswith("WGAN-GP, Gulrajani et al. 2017, arXiv:1704.00028")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'wgn-gp'; did you mean wgan-gp"):
        recipes.get("wgn-gp", "recipe")
    with pytest.raises(UsageError, match="gancore list"):
        recipes.get("qqqqqqqq", "recipe")


def test_a_name_of_another_kind_is_sent_to_the_right_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENTRIES, "theory", Entry("theory", "demo", dict))
    with pytest.raises(UsageError, match="'theory' is a demo, not a recipe: use `gancore demo`"):
        recipes.get("theory", "recipe")


OWN = '''"""Mine, Author 2020, arXiv:2001.00001. One line."""
from gancore.adversarial import adversarial
from gancore import losses
from gancore.core import Recipe, adam, recipe

@recipe
def mine_own(lr: float = 1e-3, widths: tuple[int, ...] = (1, 2)) -> Recipe:
    """lr: rate. widths: unused."""
    return adversarial(losses.hinge, adam(lr))
'''


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine_own_file.py"
    path.write_text(OWN)
    try:
        entry = recipes.get(str(path))
        assert (entry.id, entry.kind, entry.source) == ("mine-own", "recipe", str(path))
        assert recipes.get("wgan").source == ""
        with pytest.raises(UsageError, match="there is no recipe file"):
            recipes.get(str(tmp_path / "absent.py"))
        (tmp_path / "empty_file.py").write_text("")
        with pytest.raises(UsageError, match="registers no recipe"):
            recipes.get(str(tmp_path / "empty_file.py"))
    finally:
        ENTRIES.pop("mine-own", None)
        sys.modules.pop("mine_own_file", None)


def test_two_functions_of_one_name_are_refused() -> None:
    def wgan() -> None: ...

    recipes.names()
    with pytest.raises(ValueError, match="two functions are registered as 'wgan'"):
        recipe(wgan)


# -- arguments --------------------------------------------------------------------------------------------------------------


def test_arguments_split_into_options_and_parameters() -> None:
    entry = recipes.get("wgan-gp")
    options, parameters = arguments.split(entry, {"steps": 7, "penalty": 3, "ema": 0})
    assert (options.steps, options.ema) == (7, 0.0)
    assert isinstance(options.ema, float)
    assert parameters == {"penalty": 3.0, "critic_steps": 5, "lr": 1e-4}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stepz": 3}, "unknown option 'stepz'; did you mean steps"),
        ({"penatly": 3.0}, "did you mean penalty"),
        ({"qqqq": 3.0}, "wgan-gp takes penalty, critic_steps, lr"),
        ({"steps": "many"}, "steps must be a whole number, got 'many'"),
        ({"steps": 3.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"resume": 1}, "resume must be yes or no"),
    ],
)
def test_wrong_arguments(given: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        arguments.split(recipes.get("wgan-gp"), given)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "12", 12), (float, "1e-3", 1e-3), (bool, "Yes", True), (bool, "false", False), (str, "a,b", "a,b"),
        (tuple[int, ...], "3,4", (3, 4)), (float | None, "none", None), (float | None, "0.5", 0.5),
    ],
)  # fmt: skip
def test_parse(kind: Any, text: str, value: Any) -> None:
    assert arguments.parse("p", text, kind) == value


@pytest.mark.parametrize(("kind", "text"), [(int, "1.5"), (bool, "maybe"), (float, "x"), (tuple[int, ...], "3,b")])
def test_what_cannot_be_parsed(kind: Any, text: str) -> None:
    with pytest.raises(UsageError, match="p must be"):
        arguments.parse("p", text, kind)


def test_generators_of_the_toy_body_know_their_sizes() -> None:
    run = trainer(recipes.get("gan-ns").function())
    assert generator(run.spec, latent=3).latent == 3
