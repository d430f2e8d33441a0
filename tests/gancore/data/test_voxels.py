"""Voxel shapes, their silhouettes and the gallery that judges likeness."""

import pytest
import torch

from gancore import data
from gancore.data.toy import voxels


@pytest.mark.parametrize(("name", "side"), [("vox8", 8), ("vox16", 16)])
def test_shapes(name, side):
    dataset = data.load(name)
    x, y, radius = dataset.fields["x"], dataset.fields["y"], dataset.fields["radius"]
    assert x.shape[1:] == (1, side, side, side)
    assert x.unique().tolist() == [0, 255]
    rows = dataset.take(torch.arange(64))
    assert rows["x"].unique().tolist() == [-1, 1]
    volume = (x > 0).flatten(1).sum(1) / radius**3
    expected = {0: 8, 1: 4 / 3 * torch.pi * 1.15**3}  # a box of side 2 r, a ball of radius 1.15 r
    for shape, factor in expected.items():
        assert volume[y == shape].mean().item() == pytest.approx(factor, rel=0.05)
    assert volume[y == 2].mean() < 0.6 * 8  # a cross is mostly air
    assert (x > 0).flatten(1).sum(1).min() >= 8
    assert (torch.bincount(y) / len(y) - 1 / 3).abs().max() < 0.03


@pytest.mark.parametrize("name", ["vox8", "vox16"])
def test_silhouettes_are_those_of_the_voxels(name):
    dataset = data.load(name)
    for part in (dataset, dataset.held_out):
        x, silhouette = part.fields["x"], part.fields["silhouette"]
        assert torch.equal(silhouette > 0, (x > 0).any(2))
        assert silhouette.dtype == torch.uint8
    count = len(dataset)
    views = dataset.parts["views"].fields["x"]
    assert torch.equal(views[:count], dataset.fields["silhouette"])
    assert torch.equal(views[count : 2 * count] > 0, (dataset.fields["x"] > 0).any(3))
    assert torch.equal(views[2 * count :] > 0, (dataset.fields["x"] > 0).any(4))
    assert len(dataset.parts["balls"]) == (dataset.fields["y"] == 1).sum()
    corner = torch.zeros(1, 1, 8, 8, 8)
    corner[0, 0, 7, 2, 5] = 1
    assert voxels.silhouette(corner)[0, 0].nonzero().tolist() == [[2, 5]]


@pytest.mark.parametrize("name", ["vox8", "vox16"])
def test_a_silhouette_determines_the_voxels_and_the_mean_shape_does_not(name):
    """The bounds of 3d-vae-gan (SYSTEMS.md): 0.7 can be reached, a constant answer stays below 0.45."""
    dataset = data.load(name)
    unseen = dataset.held_out.fields
    near = torch.cdist(unseen["silhouette"].flatten(1).float(), dataset.fields["silhouette"].flatten(1).float()).argmin(1)
    assert voxels.iou(dataset.fields["x"][near], unseen["x"]).mean() > 0.85
    mean = (dataset.fields["x"] > 0).float().mean(0, keepdim=True)
    for cut in (0.2, 0.3, 0.4, 0.5):
        assert voxels.iou((mean > cut).float().expand(len(near), -1, -1, -1, -1), unseen["x"]).mean() < 0.45


def test_gallery():
    dataset, judge = data.load("vox8"), data.oracle("vox8")
    rows = dataset.take(torch.arange(100))
    likeness, found = judge.nearest(rows["x"])
    assert likeness.min() == 1
    assert (found == rows["y"]).float().mean() >= 0.98
    likeness, found = judge.nearest(dataset.held_out.all()["x"])
    assert likeness.mean() > 0.9
    assert (found == dataset.held_out.fields["y"]).float().mean() >= 0.95
    noise = torch.randn(20, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert judge.nearest(noise)[0].max() < 0.45
    assert judge.nearest(-torch.ones(2, 1, 8, 8, 8))[0].tolist() == [0, 0]


def test_iou():
    a, b = -torch.ones(3, 1, 2, 2, 2), -torch.ones(3, 1, 2, 2, 2)
    a[0, 0, 0], b[0, 0, :, 0] = 1, 1  # two plates of 4 that meet in 2
    a[1], b[1] = 1, 1
    assert voxels.iou(a, b).tolist() == pytest.approx([2 / 6, 1, 0])
