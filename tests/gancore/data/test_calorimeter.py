"""Showers: sparse, never negative, of a nominal energy."""

import pytest
import torch

from gancore import data


def test_showers():
    dataset, judge = data.load("calo8"), data.oracle("calo8")
    x, energy, y = dataset.fields["x"], dataset.fields["energy"], dataset.fields["y"]
    assert x.shape == (8_192, 3, 8, 8)
    assert x.dtype == energy.dtype == torch.float32
    assert x.min() == 0
    assert energy.shape == (8_192, 1)
    assert 1 <= energy.min() < 1.01
    assert 99 < energy.max() <= 100
    assert energy.log10().mean().item() == pytest.approx(1, abs=0.02)
    assert (judge.energy(x) / energy[:, 0] - 1).abs().max() <= 0.0501
    sparsity = judge.sparsity(x)
    assert 0.7 < sparsity.mean() < 0.9
    assert sparsity.min() > 0.5
    # A shower of more energy leaves more traces.
    assert sparsity[energy[:, 0] > 50].mean() < sparsity[energy[:, 0] < 2].mean() - 0.1
    shares = torch.stack([judge.layers(x)[y == k].mean(0) for k in (0, 1)])
    assert torch.allclose(shares, torch.tensor([[0.50, 0.35, 0.15], [0.15, 0.35, 0.50]]), atol=0.01)
    assert judge.width(x)[y == 0].mean() < 1.2 < 1.7 < judge.width(x)[y == 1].mean()


@pytest.mark.parametrize("held_out", [False, True])
def test_classes_are_read(held_out):
    dataset, judge = data.load("calo8"), data.oracle("calo8")
    columns = (dataset.held_out if held_out else dataset).fields
    assert (judge.predict(columns["x"]) == columns["y"]).float().mean() >= 0.95


def test_detector_by_hand():
    judge, x = data.oracle("calo8"), torch.zeros(2, 3, 8, 8)
    x[0, 0, 2, 3], x[0, 1, 2, 5], x[0, 2, 6, 3] = 2.0, 1.0, 1.0
    assert judge.energy(x).tolist() == [4, 0]
    assert judge.sparsity(x).tolist() == pytest.approx([189 / 192, 1])
    assert judge.layers(x).flatten().tolist() == pytest.approx([0.5, 0.25, 0.25, 0, 0, 0])
    # Along x: places 3, 5, 3 by 2, 1, 1 have variance 0.75; along y: 2, 2, 6 have 3.
    assert judge.width(x).tolist() == pytest.approx([3.75**0.5, 0])
    assert judge.energy(x[:, :1]).tolist() == [2, 0]
