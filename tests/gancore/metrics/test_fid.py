"""Fréchet distance: closed forms, an independent matrix square root, matrices without full rank, and what errors say."""

import numpy
import pytest
import scipy.linalg
import torch

from gancore.metrics import fid, frechet_distance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size, seed, rank=None):
    factor = normal(size, rank or size, seed=seed)
    return factor @ factor.T / size


def test_commuting_gaussians_have_a_closed_form():
    s, t = normal(16, seed=1).abs(), normal(16, seed=2).abs()
    turn = torch.linalg.qr(normal(16, 16))[0]
    m1, m2 = normal(16, seed=3), normal(16, seed=4)
    wanted = (m1 - m2).square().sum() + (s - t).square().sum()
    c1, c2 = (turn @ torch.diag(v**2) @ turn.T for v in (s, t))
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(float(wanted), rel=1e-12)


def test_samples_with_exact_moments_give_the_closed_form():
    x = normal(500, 6)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / 499)).T
    assert fid(x, 3 * x + 2) == pytest.approx(6 * 4 + 6 * (3 - 1) ** 2, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize("ranks", [(24, 24), (24, 5), (5, 7), (1, 1), (0, 24), (0, 0)])
def test_agrees_with_scipy_at_any_rank(ranks):
    c1, c2 = (covariance(24, seed, rank) if rank else torch.zeros(24, 24) for seed, rank in enumerate(ranks))
    mu = torch.zeros(24)
    # scipy's root of a singular product loses half the digits: regularised, the usual way, it is right to about 1e-4.
    eye = (0 if ranks == (24, 24) else 1e-10) * numpy.eye(24)
    root = scipy.linalg.sqrtm((c1.double().numpy() + eye) @ (c2.double().numpy() + eye))
    wanted = float(c1.trace() + c2.trace()) - 2 * numpy.trace(numpy.real(root))
    assert frechet_distance(mu, c1, mu, c2) == pytest.approx(wanted, abs=1e-9 if ranks == (24, 24) else 1e-3)


def test_rank_one_has_a_closed_form():
    a, b = normal(40, seed=1), normal(40, seed=2)
    wanted = a.square().sum() + b.square().sum() - 2 * (a @ b).abs()
    assert frechet_distance(0 * a, torch.outer(a, a), 0 * b, torch.outer(b, b)) == pytest.approx(float(wanted), rel=1e-9)


def test_negative_eigenvalues_of_rounding_are_zeros():
    c = covariance(32, 0, rank=4)
    noise = normal(32, 32, seed=9)
    dented = c + 1e-9 * (noise + noise.T)
    assert float(torch.linalg.eigvalsh(dented)[0]) < 0
    found = frechet_distance(torch.zeros(32), dented, torch.zeros(32), c)
    assert 0 <= found < 1e-6


@pytest.mark.parametrize(("count", "width"), [(300, 8), (20, 64), (2, 5)])
def test_identical_sets_are_at_zero(count, width):
    for seed in range(5):
        x = 100 * normal(count, width, seed=seed) + 1e3
        for found in (fid(x, x), fid(x, x.flip(0))):
            assert found >= 0
            assert found == pytest.approx(0.0, abs=1e-8)


def test_symmetric_and_growing_with_noise():
    x = normal(400, 8)
    scores = [fid(x + s * normal(400, 8, seed=5), x) for s in (0.0, 0.1, 0.5, 1.0, 2.0)]
    assert scores == sorted(scores)
    assert scores[-1] > 1
    y = 2 * normal(300, 8, seed=6) + 1
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-10)


def test_float32_features_lose_nothing():
    x, y = normal(200, 8).float(), (normal(200, 8, seed=1) * 1.1).float()
    assert fid(x, y) == fid(x.double(), y.double())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(1, 4), torch.zeros(9, 4)), "x: wants at least 2 samples, got 1"),
        ((torch.zeros(9, 4), torch.zeros(1, 4)), "y: wants at least 2 samples, got 1"),
        ((torch.zeros(9, 4), torch.zeros(9, 5)), "y: wants 4 features a sample, as x has, got 5"),
        ((torch.zeros(9, 4), torch.full((9, 4), torch.nan)), "y: wants finite features, got NaN or inf in 9 of 9 rows"),
        ((torch.zeros(9, 4, dtype=torch.uint8), torch.zeros(9, 4)), "x: wants floating point values"),
        ((torch.zeros(9, 0), torch.zeros(9, 0)), "x: wants at least one column"),
        ((torch.zeros(9, 1, 8, 8), torch.zeros(9, 4)), "x: wants features"),
    ],
)
def test_bad_sets_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fid(*arguments)
    with pytest.raises(TypeError, match=r"y: wants a torch.Tensor, got list"):
        fid(torch.zeros(9, 4), [])


def test_bad_moments_are_named():
    mu, eye = torch.zeros(3), torch.eye(3)
    for arguments, message in [
        ((mu, eye, torch.zeros(4), eye), "mu2: wants shape"),
        ((mu, torch.eye(4), mu, eye), "cov1: wants shape"),
        ((mu, eye, mu, torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]])), "cov2: wants a symmetric matrix"),
        ((mu, -eye, mu, eye), "cov1: wants a positive semi-definite matrix, got an eigenvalue of -1"),
        ((mu, eye * torch.inf, mu, eye), "cov1: wants finite"),
        ((eye, eye, mu, eye), "mu1: wants 1 dimensions"),
    ]:
        with pytest.raises(ValueError, match=message):
            frechet_distance(*arguments)
