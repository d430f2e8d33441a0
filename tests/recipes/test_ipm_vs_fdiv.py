"""ipm-vs-fdiv: MMD's error grows at most twofold from d = 1 to 20, that of JSD and TV by cells at least fivefold; TV is both."""

import math

import pytest
import torch

from gancore.recipes import get
from gancore.recipes.theory.ipm_vs_fdiv import _by_cells, knn_kl
from tests.accept import Clause, at_least, at_most

demo = get("ipm-vs-fdiv", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        at_most("growth of MMD's error from d = 1 to 20", figures["growth of MMD's error"], 2),
        at_least("growth of JSD's error", figures["growth of JSD's error"], 5),
        at_least("growth of TV's error", figures["growth of TV's error"], 5),
        at_most("difference of TV's two forms", abs(figures["TV, f-divergence"] - figures["TV, IPM"]), 1e-12),
    ]


def test_rates_with_the_dimension():
    figures, _ = demo(draws=10)
    assert figures["growth of MMD's error"] <= 2
    assert figures["growth of JSD's error"] >= 5
    assert figures["growth of TV's error"] >= 5
    assert figures["TV, f-divergence"] == pytest.approx(figures["TV, IPM"], abs=1e-12)


def test_estimators_find_what_there_is():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2000, 1, generator=generator)
    assert float(knn_kl(x + 1, y)) == pytest.approx(0.5, abs=0.1)
    jsd, tv = _by_cells(x + 1, y, 64)
    assert float(tv) == pytest.approx(0.3829, abs=0.05)
    assert float(jsd) == pytest.approx(0.1114, abs=0.03)
    far = _by_cells(x + 20, y - 20, 8)
    assert float(far[0]) == pytest.approx(math.log(2), abs=1e-6)
