"""density-ratio: the logit is 1/2 - x with R^2 >= 0.99 on [-2, 3]; equal laws are told apart half of the time."""

from gancore.recipes import get
from tests.accept import Clause, at_least, between

demo = get("density-ratio", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        at_least("R^2 of the logit against 1/2 - x on [-2, 3]", figures["R^2 of the logit"], 0.99),
        between("held-out accuracy on equal laws", figures["accuracy on equal laws"], 0.47, 0.53),
        between("accuracy less that of D*", figures["accuracy"] - figures["accuracy of D*"], -0.01, 0.01),
    ]


def test_the_logit_is_the_log_ratio():
    figures, _ = demo(updates=300, batch=512, lr=1e-2)
    assert figures["R^2 of the logit"] >= 0.99
    assert 0.47 <= figures["accuracy on equal laws"] <= 0.53


def test_it_is_that_of_the_laws_that_were_given():
    """Steeper for laws farther apart: the exact logit is 2 - 2 x at mean 2."""
    figures, _ = demo(mean=2.0, updates=300, batch=512, lr=1e-2)
    assert figures["R^2 of the logit"] >= 0.98
    assert abs(figures["accuracy"] - 0.8413) < 0.01
