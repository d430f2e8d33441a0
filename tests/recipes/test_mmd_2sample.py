"""mmd-2sample: closed forms 0.1773 and 0.1621 within 5 %; mean 0 under H0; power at n = 200; the demo's figures and drawing."""

import pytest
from click.testing import CliRunner

from gancore.cli.app import app
from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, between

demo = get("mmd-2sample", "demo").function


def accept(seed: int) -> list[Clause]:
    shifted, _ = demo(samples=200, draws=400, tests=100, stream=seed)
    equal, _ = demo(mean=0.0, draws=2, tests=200, stream=seed + 100)
    return [
        between("MMD^2 of N(0,1) and N(1,1), h = 1, over 0.1773", shifted["mmd2"] / 0.1773, 0.95, 1.05),
        between("the same, kernel exp(-d^2), over 0.1621", shifted["mmd2, kernel exp(-d^2)"] / 0.1621, 0.95, 1.05),
        between("equal laws: mean in standard errors", shifted["equal laws: mean in standard errors"], -2, 2),
        at_least("power of the permutation test, n = 200", shifted["power at level 0.05"], 0.95),
        # Of 200 tests at level 0.05 ten are expected to reject, and more than 20 at one chance in a thousand.
        at_most("rejections of equal laws at level 0.05", equal["power at level 0.05"], 0.1),
    ]


def test_closed_forms_are_those_of_the_survey():
    figures, _ = demo(samples=20, draws=2, tests=1, permutations=5)
    assert figures["closed form"] == pytest.approx(0.1773, abs=5e-5)
    assert figures["closed form, kernel exp(-d^2)"] == pytest.approx(0.1621, abs=5e-5)


def test_figures_come_near_them():
    figures, _ = demo(draws=100, tests=5, permutations=49)
    assert figures["mmd2"] == pytest.approx(0.1773, rel=0.1)
    assert figures["mmd2, kernel exp(-d^2)"] == pytest.approx(0.1621, rel=0.1)
    assert abs(figures["equal laws: mean in standard errors"]) < 3
    assert figures["power at level 0.05"] == 1


def test_the_stream_decides_the_draws():
    small = {"samples": 20, "draws": 3, "tests": 2, "permutations": 9}
    assert demo(**small)[0] == demo(**small)[0]
    assert demo(**small)[0] != demo(**small, stream=1)[0]


def test_the_command_prints_and_draws(tmp_path):
    picture = tmp_path / "two.png"
    words = f"demo mmd-2sample --samples 20 --draws 10 --tests 2 --permutations 9 --out {picture}"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    assert "closed form" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
