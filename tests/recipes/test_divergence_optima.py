"""divergence-optima: four measures, four Gaussians for one mixture, each figure to 0.05."""

import pytest

from gancore.kernels import gaussian, mmd2
from gancore.recipes import get
from gancore.theory import mixture, seeded

OPTIMA = {"KL(p || q)": (-0.65, 2.148), "KL(q || p)": (-2.0, 0.601), "JSD": (-1.999, 0.601), "MMD": (-1.963, 1.082)}


@pytest.fixture(scope="module")
def figures():
    return get("divergence-optima", "demo").function(updates=100)[0]


def test_each_measure_has_its_own_optimum(figures):
    for name, (mean, deviation) in OPTIMA.items():
        assert figures[f"{name}: mean"] == pytest.approx(mean, abs=0.05)
        assert figures[f"{name}: deviation"] == pytest.approx(deviation, abs=0.05)


def test_mmd_is_that_of_samples(figures):
    with seeded(0):
        x = mixture((0.7, 0.3), (-2.0, 2.5), (0.6, 0.6)).sample((4000, 1))
        y = mixture((1.0,), (figures["MMD: mean"],), (figures["MMD: deviation"],)).sample((4000, 1))
    assert float(mmd2(x, y, gaussian(1.0))) == pytest.approx(figures["MMD: value"], abs=0.01)
