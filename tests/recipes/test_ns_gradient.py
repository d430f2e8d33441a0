"""ns-gradient: autograd of -log D* is KL less twice JSD by differences, to 1e-3; its variance grows as the supports part."""

import pytest

from gancore.recipes import get

demo = get("ns-gradient", "demo").function


@pytest.mark.parametrize(("mean", "ratio"), [(1.0, 0.8), (2.0, 0.8), (0.5, 1.5)])
def test_the_gradient_is_that_of_reverse_kl_less_twice_jsd(mean, ratio):
    figures, _ = demo(mean=mean, ratio=ratio, widths=(1.0, 0.6, 0.4))
    assert figures["largest relative difference of the two gradients"] < 1e-3


def test_its_variance_grows_and_the_saturating_gradient_vanishes():
    figures, _ = demo()
    assert figures["growth of the variance"] >= 10
    assert figures["the same, narrowest"] < 1e-3 * figures["mean square of the gradient of log(1 - D), widest"]
