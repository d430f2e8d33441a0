"""fgan: every member's bound within 5 % of its divergence, never above it; RING(0.6) for GAN, Jensen-Shannon and Hellinger."""

import pytest

from gancore.divergences import DIVERGENCES
from gancore.recipes import get
from tests.accept import Clause, between, ring
from tests.one_gaussian import EXACT, bound


def accept(seed: int) -> list[Clause]:
    clauses = []
    for name, law in DIVERGENCES.items():
        exact = EXACT[name]
        found = bound("fgan", law, seed, steps=1200, divergence=name)
        # By quadrature, so the bound has no sampling error that could bring it above the divergence.
        clauses.append(between(f"bound of {name}, N(0,1) against N(1,1)", found, exact - 0.05 * abs(exact), exact + 1e-4))
    # Where Hellinger's critic is sure the stronger game's slope e^-v has no bound, and G is thrown off its modes.
    for name, strong in (("gan", True), ("js", True), ("hellinger", False)):
        _, found = ring("fgan", 0.6, seed, divergence=name, strong=strong, steps=2000)
        clauses += [Clause(f"{c.name}, {name}", c.value, c.wanted, c.passed) for c in found]
    return clauses


@pytest.mark.parametrize("name", [*DIVERGENCES, "alpha"])
def test_every_member_is_a_recipe(name):
    stages = get("fgan").function(divergence=name, alpha=0.3).stages
    assert [phase.name for phase in stages[0].phases] == ["critic", "generator"]
