"""jsd-saturation: accuracy 100 %, |V| < 0.02 and G's saturating gradient 100 times smaller than at step 10."""

import math

import pytest

from gancore.recipes import get
from tests.accept import Clause, at_least, at_most

demo = get("jsd-saturation", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        at_least("accuracy of D", figures["accuracy of D"], 1.0),
        at_most("|V|", abs(figures["V"]), 0.02),
        at_most("log 2 less the JSD estimate", abs(math.log(2) - figures["JSD estimate"]), 0.01),
        at_least("gradient of log(1 - D) at step 10 over that at the end", figures["decay"], 100),
        at_least("gradient of -log D at the end", figures["gradient of -log D at the end"], 1),
    ]


def test_the_gradient_dies_where_the_supports_are_apart():
    figures, _ = demo(updates=400, batch=64, lr=1e-2)
    assert figures["accuracy of D"] == 1
    assert abs(figures["V"]) < 0.02
    assert figures["decay"] >= 100


def test_it_lives_where_they_are_one():
    figures, _ = demo(theta=0.0, updates=100, batch=64)
    assert figures["JSD estimate"] == pytest.approx(0, abs=0.05)
