"""The handwritten digits and their judge, held to the anchors of SYSTEMS.md section 0."""

import numpy as np
import pytest
import scipy.linalg
import torch

from gancore import data
from gancore.data import DataError


def frechet(a, b):
    """Independent of gancore.metrics: scipy's matrix square root of the product of the covariances."""
    a, b = a.double().numpy(), b.double().numpy()
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values = scipy.linalg.eigvals(cov_a @ cov_b).real.clip(min=0)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * np.sqrt(values).sum())


@pytest.fixture(scope="module")
def real():
    return data.load("digits8").all()["x"]


def gaussian_fit(x, generator):
    """Samples of the Gaussian with the mean and the full covariance of x, as pixels."""
    flat = x.flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    root = vectors * values.clamp(min=0).sqrt()
    samples = flat.mean(0) + torch.randn(flat.shape, generator=generator, dtype=torch.float64) @ root.T
    return samples.clamp(-1, 1).float().view_as(x)


def test_anchors(real):
    judge = data.oracle("digits8")
    generator = torch.Generator().manual_seed(0)
    features = judge.features(real)
    assert features.shape == (1797, 64)
    splits = [features[torch.randperm(len(real), generator=generator)].split(899) for _ in range(10)]
    found = {
        "halves": float(np.mean([frechet(a, b) for a, b in splits])),
        "gaussian": frechet(features, judge.features(gaussian_fit(real, generator))),
        "noise": frechet(features, judge.features(2 * torch.rand(real.shape, generator=generator) - 1)),
        "std": float((real.flatten(1) / 2).std(0).mean()),
    }
    print(found)
    assert found == pytest.approx({"halves": 0.76, "gaussian": 10.4, "noise": 194.5, "std": 0.230}, rel=0.15)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_judge(size):
    digits, judge = data.load("digits", size=size), data.oracle(f"digits{size}")
    x, y = digits.all()["x"], digits.fields["y"]
    probabilities = judge.probabilities(x)
    divergence = (probabilities * (probabilities.clamp(min=1e-12) / probabilities.mean(0)).log()).sum(1).mean()
    print(size, judge.test_accuracy, "inception score", divergence.exp().item())
    assert judge.test_accuracy["y"] >= 0.96
    assert (judge.predict(x) == y).float().mean() >= 0.97
    assert torch.allclose(probabilities.sum(1), torch.ones(len(x)), atol=1e-5)
    assert divergence.exp() >= 9.3
    assert not any(p.requires_grad for p in judge.parameters())


def test_pixels():
    digits = data.load("digits8")
    assert digits.shape == (1, 8, 8)
    assert digits.fields["x"].dtype == torch.uint8
    assert len(digits) == 1797
    assert digits.classes == 10
    assert digits.fields["x"].max() == 255
    assert data.load("digits") is data.load("digits16")
    for size in (16, 32):
        large = data.load("digits", size=size).all()["x"]
        assert large.shape == (1797, 1, size, size)
        coarse = torch.nn.functional.avg_pool2d(large, size // 8)
        assert (coarse - digits.all()["x"]).abs().mean() < 0.15


def test_other_sizes_are_refused():
    with pytest.raises(DataError, match="digits: no size 12, expected one of 8, 16, 32"):
        data.load("digits", size=12)
    with pytest.raises(DataError, match="it has no size 16"):
        data.load("digits8", size=16)
