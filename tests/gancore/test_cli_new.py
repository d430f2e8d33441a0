"""`gancore new`: what it writes works, and what it refuses."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

import gancore
from gancore.cli.app import app
from gancore.core import UsageError
from gancore.core.registry import ENTRIES
from gancore.recipes import get, names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    names()  # so that what is put back is everything
    before = dict(ENTRIES)
    yield tmp_path
    ENTRIES.clear()
    ENTRIES.update(before)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_new_recipe_passes_its_test_and_trains(here: Path):
    shown = invoke("new", "my-gan").stdout
    assert shown.splitlines()[:2] == ["wrote my_gan.py", "wrote test_my_gan.py"]
    module = module_at(here / "test_my_gan.py")
    functions = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(functions) == 3
    for function in functions:
        function()
    assert invoke("train", "my_gan.py", "--data=ring8", "--steps=4", "--save-every=4", "--penalty=0.3").exit_code == 0
    run = gancore.load("runs/my-gan")
    assert run.parameters["penalty"] == 0.3
    assert run.describe()["command"].startswith(f"gancore train {here}/my_gan.py")


def test_its_test_sees_a_wrong_recipe(here: Path):
    invoke("new", "my-gan")
    text = (here / "my_gan.py").read_text()
    module = module_at(here / "test_my_gan.py")
    (here / "my_gan.py").write_text(text.replace("gradient.square()", "gradient.abs()"))
    with pytest.raises(AssertionError):
        module.test_terms_have_the_values_computed_by_hand()
    (here / "my_gan.py").write_text(text.replace('{"generator": 1.0}', '{"generator": 0.0}'))
    with pytest.raises(AssertionError, match="G"):
        module.test_every_player_learns()


@pytest.mark.parametrize("name", ["wgan-gp", "My-Gan", "1gan", "a b", "../x", "class", "a--b", ""])
def test_names_that_cannot_be_are_refused(here: Path, name: str):
    assert invoke("new", name).exit_code == 2
    assert not list(here.iterdir())


def test_nothing_is_overwritten(here: Path):
    (here / "test_my_gan.py").write_text("mine")
    assert invoke("new", "my-gan").exit_code == 2
    assert [path.name for path in here.iterdir()] == ["test_my_gan.py"]
    assert invoke("new", "my-gan", "--folder", "no-such").exit_code == 2


def test_recipe_files_are_found_again_and_reloaded(here: Path):
    invoke("new", "json")  # a module of the standard library has this name and keeps it
    first = get("json.py")
    assert first.title.startswith("json, after")
    path = here / "json.py"
    path.write_text(path.read_text().replace("def json(", "def other("))
    assert get("json.py").id == "other"
    assert "json" not in ENTRIES
    import json

    assert json.loads("[1]") == [1]


@pytest.mark.parametrize("text", ["def broken(", "import no_such_module", "x = 1", "from gancore.core import recipe\n"])
def test_recipe_files_that_register_nothing_say_so(here: Path, text: str):
    (here / "bad.py").write_text(text)
    with pytest.raises(UsageError, match=r"bad\.py"):
        get("bad.py")
    with pytest.raises(UsageError, match="no recipe file"):
        get("absent.py")


def test_a_recipe_file_cannot_take_a_name_of_gancore(here: Path):
    (here / "mine.py").write_text("from gancore.core import Recipe, recipe\n\n@recipe\ndef wgan_gp() -> Recipe: ...\n")
    with pytest.raises(UsageError, match="two functions are registered as 'wgan-gp'"):
        get("mine.py")
