"""Waveforms: a tone in an envelope, read by the ear that judges them."""

import math

import pytest
import torch

from gancore import data
from gancore.data.toy import tones


def test_waves():
    columns = data.load("tones64").fields
    x, envelope = columns["x"], columns["envelope"]
    assert x.shape == (8_192, 1, 64)
    assert x.dtype == torch.float32
    assert (x.abs() <= envelope + 1e-6).all()
    assert 0.95 < x.abs().max() <= 1
    noise = columns["noisy"] - x
    assert noise.std().item() == pytest.approx(0.2, abs=0.002)
    assert noise.mean().abs() < 0.002
    assert torch.bincount(4 * columns["y"] + columns["content"]).min() > 0.04 * len(x)
    # Tone by least squares: with envelope and pitch known, phase is all that is left.
    turn = 2 * math.pi * torch.tensor(tones.CYCLES)[columns["y"]][:, None] * torch.arange(64) / 64
    basis = torch.stack([turn.sin(), turn.cos()], -1) * envelope[:, 0, :, None]
    fit = torch.linalg.lstsq(basis, x[:, 0, :, None]).solution
    assert (basis @ fit - x[:, 0, :, None]).abs().max() < 1e-3
    assert fit[:, :, 0].norm(dim=1).sub(1).abs().max() < 1e-3


def test_ear():
    columns, ear = data.load("tones64").fields, data.oracle("tones64")
    for name in ("x", "noisy"):
        assert (ear.pitch(columns[name]) == columns["y"]).float().mean() >= 0.99
        assert (ear.content(columns[name]) == columns["content"]).float().mean() >= 0.98
    assert tones.correlation(ear.envelope(columns["x"]), columns["envelope"][:, 0]).mean() > 0.95
    t = torch.arange(64) / 64
    wave = torch.sin(2 * math.pi * 9 * t)[None, None]
    assert ear.frequency(wave).item() == 9
    assert ear.pitch(wave).item() == 1  # 8 is nearer than 11
    assert torch.allclose(ear.envelope(0.5 * wave), torch.tensor(0.5), atol=1e-4)


def test_parts_and_rest():
    dataset = data.load("tones64")
    assert sum(len(part) for part in dataset.parts.values()) == len(dataset)
    for k in range(4):
        assert dataset.parts[f"speaker{k}"].fields["y"].unique().tolist() == [k]
    assert len(dataset.held_out) == 1_024
    assert not torch.equal(dataset.held_out.fields["x"], dataset.fields["x"][:1_024])


def test_correlation():
    a = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    assert tones.correlation(a, torch.tensor([2.0, 4.0, 6.0])).tolist() == pytest.approx([1, 0])
    assert tones.correlation(a, -a).tolist() == pytest.approx([-1, 0])
