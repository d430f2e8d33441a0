"""Points on a line and in the plane follow their laws."""

import pytest
import torch

from gancore import data


def test_gauss1d():
    dataset = data.load("gauss1d:2.0")
    both = [dataset.fields["x"], dataset.parts["other"].fields["x"]]
    for x, mean in zip(both, (0.0, 2.0), strict=True):
        assert x.shape == (65_536, 1)
        assert x.mean().item() == pytest.approx(mean, abs=0.02)
        assert x.std().item() == pytest.approx(1, abs=0.02)
    assert torch.corrcoef(torch.cat(both, 1).T)[0, 1].abs() < 0.02
    assert data.load("gauss1d").name == "gauss1d:1"


def test_bimodal1d():
    dataset = data.load("bimodal1d")
    x, y = dataset.fields["x"][:, 0], dataset.fields["y"]
    for mode, mean in ((0, -3.0), (1, 3.0)):
        assert x[y == mode].mean().item() == pytest.approx(mean, abs=0.02)
        assert x[y == mode].std().item() == pytest.approx(0.7, abs=0.01)
    assert y.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert x.std().item() == pytest.approx(3.08, abs=0.02)  # the forward KL's best Gaussian, SYSTEMS.md row kl-asymmetry
    assert data.oracle("bimodal1d").quality(dataset.fields["x"]) == {"modes": 2, "hq": pytest.approx(0.997, abs=0.002)}


def test_lines():
    dataset = data.load("lines:0.5")
    both = [dataset.fields["x"], dataset.parts["other"].fields["x"]]
    assert both[0][:, 0].unique().tolist() == [0]
    assert both[1][:, 0].unique().tolist() == [0.5]
    for u in (both[0][:, 1], both[1][:, 1]):
        assert 0 <= u.min() < 0.01
        assert 0.99 < u.max() <= 1
        assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.corrcoef(torch.stack([both[0][:, 1], both[1][:, 1]]))[0, 1].abs() < 0.02


@pytest.mark.parametrize("angle", [0.0, 35.0, 90.0])
def test_moons(angle):
    dataset = data.load(f"moons:{angle}")
    x, y = dataset.fields["x"], dataset.fields["y"]
    target, target_y = dataset.parts["target"].fields["x"], dataset.parts["target"].fields["y"]
    assert x.mean(0).abs().max() < 0.03
    turn = torch.deg2rad(torch.tensor(-angle))
    back = target @ torch.tensor([[turn.cos(), turn.sin()], [-turn.sin(), turn.cos()]])
    # Each point lies near its own arc: on the unit circle around the moon's middle, after the two were centred.
    for points, labels in ((x, y), (back, target_y)):
        sign = 1.0 - 2.0 * labels
        circle = points * sign[:, None] + torch.tensor([0.5, 0.25])
        assert (circle.norm(dim=1) - 1).std().item() == pytest.approx(0.08, abs=0.005)
        assert (circle[:, 1] > -0.3).all()
    if angle == 90:  # counter-clockwise: the middle of the upper moon, up and to the left, comes to lie down and to the left
        assert target[target_y == 0].mean(0)[0] < -0.2
        assert target[target_y == 0].mean(0)[1] < -0.3
    assert len(target) == len(x) == 8_192
    assert len(dataset.held_out) == len(dataset.held_out.parts["target"]) == 4_096
    assert dataset.parts["labelled"].fields["y"].bincount().tolist() == [3, 3]
    assert len(dataset.parts["unlabelled"]) == 1_000
    assert not torch.equal(dataset.held_out.fields["x"], x[:4_096])
