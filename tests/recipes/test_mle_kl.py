"""mle-kl: the fit is the sample's mean and variance to 1e-3; cross-entropy less entropy is KL to 1e-3."""

import pytest

from gancore.recipes import get

demo = get("mle-kl", "demo").function


@pytest.fixture(scope="module")
def figures():
    return demo(updates=300)[0]


def test_the_gradient_finds_the_samples_mean_and_variance(figures):
    assert figures["fitted mean"] == pytest.approx(figures["sample mean"], abs=1e-3)
    assert figures["fitted variance"] == pytest.approx(figures["sample variance"], abs=1e-3)


def test_cross_entropy_less_entropy_is_kl(figures):
    assert figures["largest difference of the two on the way to the fit"] < 1e-3
    assert figures["KL at N(0, 1)"] == pytest.approx(2.318147, abs=1e-6)  # (1/4 + 4 - 1) / 2 - log 1/2
    assert figures["cross-entropy less entropy at N(0, 1)"] == pytest.approx(2.318147, abs=1e-6)
