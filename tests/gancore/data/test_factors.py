"""Faces, bars and clips: what the columns say is what the pixels show, and the judges read it from unseen images."""

import pytest
import torch

from gancore import data
from gancore.data.classifier import accuracy
from gancore.data.toy import clips, faces


def test_every_factor_of_a_face_is_read():
    generator = torch.Generator().manual_seed(1_000)
    factors = {name: torch.randint(size, (3_000,), generator=generator) for name, size in faces.FACTORS.items()}
    images = 2 * faces.render(factors, torch.rand(3_000, 2, generator=generator) - 0.5) - 1
    judge = data.oracle("faces16")
    assert set(judge.test_accuracy) == set(faces.FACTORS)
    assert min(judge.test_accuracy.values()) >= 0.98
    assert min(accuracy(judge, images, factors).values()) >= 0.98
    assert judge.features(images[:5]).shape == (5, 64)
    assert judge.probabilities(images[:5]).shape == (5, 8)
    shuffled = {name: target.roll(1) for name, target in factors.items()}
    assert max(accuracy(judge, images, shuffled).values()) < 0.6


def test_kinds_of_faces():
    dataset = data.load("faces16")
    parts = dataset.parts
    assert len(parts["glasses"]) + len(parts["bare"]) == len(dataset) == sum(len(parts[f"identity{k}"]) for k in range(8))
    for kind, factor, value in (("bare", "glasses", 0), ("glasses", "glasses", 1), ("identity5", "identity", 5)):
        assert parts[kind].fields[factor].unique().tolist() == [value]
        found = data.oracle("faces16").factors(parts[kind].take(torch.arange(300))["x"])[factor]
        assert (found == value).float().mean() >= 0.98
    unseen = dataset.held_out.all()
    assert min(accuracy(data.oracle("faces16"), unseen["x"], {name: unseen[name] for name in faces.FACTORS}).values()) >= 0.98


def test_a_judge_passes_gradients_to_images():
    x = data.load("faces16").take(torch.arange(4))["x"].requires_grad_()
    data.oracle("faces16").features(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_bars():
    bars, judge = data.load("bars16"), data.oracle("bars16")
    x, y, offset = bars.all()["x"], bars.fields["y"], bars.fields["offset"]
    assert judge.test_accuracy["y"] >= 0.98
    light = (x + 1) / 2
    axis = torch.arange(16) - 7.5
    upright = y == 0  # then the offset is along x
    centre = (light[upright, 0].sum(1) * axis).sum(1) / light[upright, 0].sum((1, 2))
    assert (centre - offset[upright]).abs().max() < 0.3
    flat = y == 4
    centre = (light[flat, 0].sum(2) * axis).sum(1) / light[flat, 0].sum((1, 2))
    assert (centre - offset[flat]).abs().max() < 0.3


def test_clips():
    films, judge = data.load("clips16"), data.oracle("clips16")
    columns = films.take(torch.arange(1_000))
    x, mask = columns["x"], (columns["mask"] + 1) / 2
    assert x.shape == (1_000, 3, 8, 16, 16)
    assert min(judge.test_accuracy.values()) >= 0.98
    assert torch.equal(clips.colours(x), columns["colour"][:, None].expand(-1, 8))
    way = clips.path(x)
    velocity = (way[:, -1] - way[:, 0]) / 7
    speed = torch.tensor(clips.SPEEDS)[columns["speed"]]
    assert (velocity.norm(dim=1) - speed).abs().max() < 0.05
    expected = torch.stack([velocity[:, 0], velocity[:, 1], -velocity[:, 0], -velocity[:, 1]], 1).argmax(1)
    assert torch.equal(expected, columns["direction"])
    assert mask.sum((3, 4)).sub(16).abs().max() < 0.1  # the square stays in view, four by four
    uncovered = mask.expand_as(x) == 0
    brightest = torch.where(uncovered, x, -9).amax(2, keepdim=True)
    darkest = torch.where(uncovered, x, 9).amin(2, keepdim=True)
    assert (brightest - darkest).max() < 0.01  # the background stands still; one level of rounding is 0.008


def test_colours_of_frames_are_read_one_by_one():
    films = data.load("clips16")
    red, blue = ((films.fields["colour"] == c).nonzero()[0] for c in (0, 2))
    both = torch.cat([films.take(red)["x"], films.take(blue)["x"]], 2)
    assert clips.colours(both).tolist() == [[0] * 8 + [2] * 8]
    assert clips.saturation(torch.zeros(1, 3, 2, 4, 4)).max() == 0


@pytest.mark.parametrize("name", ["shapes16", "bars16", "faces16", "clips16", "digits8"])
def test_judges_are_frozen(name):
    judge = data.oracle(name)
    assert not judge.training
    assert not any(p.requires_grad for p in judge.parameters())
    assert data.oracle(name) is judge
