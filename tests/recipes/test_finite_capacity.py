"""finite-capacity: the distance to m samples falls with m, D of at most 50 weights; collisions give 400 atoms within a factor 2."""

from itertools import pairwise

from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, between

demo = get("finite-capacity", "demo").function
SIZES = (10, 40, 160, 640, 2000)


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    found = [figures[f"distance to {m} samples"] for m in SIZES]
    return [
        at_most("weights of D", figures["weights of D"], 50),
        at_least("smallest ratio of a distance to the next", min(a / b for a, b in pairwise(found)), 1.0),
        at_most("distance to 2000 samples", found[-1], 0.01),
        between("atoms by collisions, of 400", figures["atoms, by collisions"] / 400, 0.5, 2.0),
    ]


def test_distance_falls_with_the_samples():
    figures, _ = demo(sizes=(10, 100, 1000), copies=1, updates=60, atoms=4, trials=1)
    found = [figures[f"distance to {m} samples"] for m in (10, 100, 1000)]
    assert found[0] > found[1] > found[2] > 0
    assert figures["weights of D"] <= 50


def test_collisions_count_atoms():
    for atoms in (100, 400):
        figures, _ = demo(sizes=(10,), copies=1, updates=1, atoms=atoms)
        assert 0.5 < figures["atoms, by collisions"] / atoms < 2
