"""Token strings, waveforms, voxels and showers, and what reads them."""

import math

import pytest
import torch

from gancore import data
from gancore.data.toy import tones, voxels


def test_likelihood_of_strings_is_exact():
    """All 64 two-token strings have probabilities that sum to 1 and match what is sampled."""
    language = data.oracle("tok12")
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    law = (-language.nll(pairs)).exp()
    assert law.sum().item() == pytest.approx(1, abs=1e-5)
    x = data.load("tok12").fields["x"]
    seen = torch.bincount(8 * x[:, 0] + x[:, 1], minlength=64) / len(x)
    error = (law * (1 - law) / len(x)).sqrt()
    assert ((seen - law).abs() <= 5 * error + 1e-4).all()
    assert language.nll(x).mean() < language.uniform - 3


def test_strings_depend_on_their_past():
    language, x = data.oracle("tok12"), data.load("tok12").fields["x"]
    assert x.shape == (16_384, 12)
    assert x.unique().tolist() == list(range(8))
    assert x.unique(dim=0).shape[0] > 10_000
    assert language.nll(x.flip(1)).mean() > language.nll(x).mean() + 1
    # Short of the law itself, the best that single letters can do:
    share = torch.bincount(x.flatten(), minlength=8) / x.numel()
    assert language.nll(x).mean() < 12 * -(share * share.log()).sum() - 1
    assert language.uniform > 12 * math.log(8)
    generator = torch.Generator().manual_seed(3)
    again = language.sample(2_000, generator)
    assert language.nll(again).mean().item() == pytest.approx(language.nll(x).mean().item(), rel=0.02)


def test_tones_are_read():
    sounds, ear = data.load("tones64"), data.oracle("tones64")
    x, noisy = sounds.fields["x"], sounds.fields["noisy"]
    assert x.shape == (8_192, 1, 64)
    assert x.abs().max() <= 1
    assert (ear.pitch(x) == sounds.fields["y"]).float().mean() >= 0.99
    assert (ear.pitch(noisy) == sounds.fields["y"]).float().mean() >= 0.98
    assert (ear.content(x) == sounds.fields["content"]).float().mean() >= 0.98
    likeness = tones.correlation(ear.envelope(x), sounds.fields["envelope"][:, 0])
    assert likeness.mean() >= 0.9
    assert (noisy - x).std().item() == pytest.approx(0.2, abs=0.005)
    pure = torch.sin(2 * math.pi * 7 * torch.arange(64) / 64 + 0.3)[None, None]
    assert ear.frequency(pure).tolist() == [7]
    assert torch.allclose(ear.envelope(pure), torch.ones(1, 64), atol=1e-4)


@pytest.mark.parametrize("name", ["vox8", "vox16"])
def test_voxels(name):
    shapes, judge = data.load(name), data.oracle(name)
    full = shapes.fields["x"][:, 0] > 0
    assert shapes.fields["x"].unique().tolist() == [0, 255]
    assert torch.equal(shapes.fields["silhouette"][:, 0] > 0, full.any(1))
    # Volumes in the order box, ball, cross at equal radius; nothing is empty or touches all sides.
    volume = full.flatten(1).sum(1)
    assert volume.min() >= 7
    assert volume.max() < full[0].numel() / 2
    score, label = judge.nearest(shapes.take(torch.arange(200))["x"])
    assert (score == 1).all()
    assert (label == shapes.fields["y"][:200]).float().mean() >= 0.95  # at 8 a few small balls are boxes
    noise = torch.randn(20, *shapes.shape, generator=torch.Generator().manual_seed(0))
    assert judge.nearest(noise)[0].max() < 0.45
    assert judge.nearest(torch.full((2, *shapes.shape), -1.0))[0].tolist() == [0, 0]
    half = full[:1].clone()
    half[:, : full.shape[1] // 2] = False
    both = (half & full[:1]).sum() / full[:1].sum()
    assert judge.nearest(half[:, None].float())[0] >= both


def test_silhouette_looks_along_the_depth():
    voxel = torch.zeros(1, 1, 4, 4, 4)
    voxel[0, 0, 3, 1, 2] = 1
    assert voxels.silhouette(voxel).nonzero().tolist() == [[0, 0, 1, 2]]


def test_showers():
    showers, detector = data.load("calo8"), data.oracle("calo8")
    x, y = showers.fields["x"], showers.fields["y"]
    assert x.shape == (8_192, 3, 8, 8)
    assert x.min() == 0
    assert (detector.energy(x) / showers.fields["energy"][:, 0] - 1).abs().max() < 0.0501
    sparsity = detector.sparsity(x)
    assert 0.6 < sparsity.mean() < 0.95
    assert sparsity.std() > 0.02
    assert (detector.predict(x) == y).float().mean() >= 0.98
    assert torch.allclose(detector.layers(x).sum(1), torch.ones(len(x)))
    assert detector.layers(x)[y == 0].mean(0).tolist() == pytest.approx([0.50, 0.35, 0.15], abs=0.02)
    assert detector.width(x)[y == 1].mean() > 1.5 * detector.width(x)[y == 0].mean()
    spot = torch.zeros(2, 3, 8, 8)
    spot[0, 1, 2, 3] = 2.0
    assert detector.width(spot).tolist() == [0, 0]
    assert detector.energy(spot).tolist() == [2, 0]
