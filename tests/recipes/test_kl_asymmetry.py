"""kl-asymmetry: forward (0, 3.08), reverse (+-3, 0.70) at 0.693; JSD symmetric and within [0, log 2], KL not."""

import math

import pytest

from gancore.recipes import get

demo = get("kl-asymmetry", "demo").function


@pytest.fixture(scope="module")
def figures():
    return demo(updates=300)[0]


def test_forward_covers_and_reverse_seeks(figures):
    assert figures["forward: mean"] == pytest.approx(0, abs=0.005)
    assert figures["forward: deviation"] == pytest.approx(math.sqrt(9 + 0.49), abs=0.005)
    for side, sign in (("right", 1), ("left", -1)):
        assert figures[f"reverse from the {side}: mean"] == pytest.approx(3 * sign, abs=0.005)
    assert figures["reverse from the right: deviation"] == pytest.approx(0.7, abs=0.005)
    assert figures["reverse: KL(q || p)"] == pytest.approx(0.693, abs=0.001)


def test_jsd_is_bounded_and_symmetric_and_kl_is_not(figures):
    assert figures["JSD(p, reverse fit)"] == pytest.approx(figures["JSD(reverse fit, p)"], abs=1e-12)
    assert 0 < figures["JSD(p, reverse fit)"] < math.log(2)
    assert figures["JSD of laws far apart"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures["JSD of equal laws"] == pytest.approx(0, abs=1e-12)
    assert figures["forward fit: KL(q || p)"] > 2 * figures["forward: KL(p || q)"]
