"""metric-strength: W1 within 10 % of theta and monotone; JSD at least 0.65 for every theta but 0, and 0 there."""

from itertools import pairwise

from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, between

demo = get("metric-strength", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    w = [figures[f"W1 at {theta}"] for theta in ("1", "0.5", "0.1", "0")]
    return [
        *(between(f"W1 over theta = {theta:g}", found / theta, 0.9, 1.1) for theta, found in zip((1.0, 0.5, 0.1), w, strict=False)),
        at_least("smallest fall of W1 to the next theta", min(a - b for a, b in pairwise(w)), 0.0),
        at_most("|W1| at 0", abs(w[-1]), 0.01),
        at_least("smallest JSD of theta other than 0", min(figures[f"JSD at {theta}"] for theta in ("1", "0.5", "0.1")), 0.65),
        at_most("|JSD| at 0", abs(figures["JSD at 0"]), 0.01),
        at_least("smallest TV of theta other than 0", min(figures[f"TV at {theta}"] for theta in ("1", "0.5", "0.1")), 0.95),
    ]


def test_w1_measures_what_jsd_only_notices():
    figures, _ = demo(thetas=(1.0, 0.5), updates=100, samples=128, lr=1e-2)
    assert abs(figures["W1 at 1"] - 1) < 0.15
    assert abs(figures["W1 at 0.5"] - 0.5) < 0.1
    assert min(figures["JSD at 1"], figures["JSD at 0.5"]) > 0.65
