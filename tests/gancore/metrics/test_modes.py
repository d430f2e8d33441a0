"""Modes covered and high-quality share of Gaussian mixtures."""

import math

import pytest
import torch

from gancore.metrics import modes

RING = torch.stack([torch.tensor([2 * math.cos(a), 2 * math.sin(a)]) for a in torch.arange(8) * math.pi / 4])


def samples(count, kept=8, sigma=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return RING[torch.arange(count) % kept] + sigma * torch.randn(count, 2, generator=generator)


def test_true_samples_cover_all_modes():
    found = modes(samples(4000), RING)
    assert found.covered == 8
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.006)


def test_a_collapsed_generator_covers_what_it_makes():
    assert modes(samples(4000, kept=3), RING).covered == 3


def test_a_mode_counts_from_one_per_cent():
    at = torch.cat([RING[:1].repeat(99, 1), RING[1:2]])
    assert modes(at, RING) == (2, 1.0)
    assert modes(torch.cat([at, RING[:1]]), RING) == (1, 1.0)


def test_quality_ends_at_three_sigma():
    inside, outside = torch.tensor([[2.0, 0.299]]), torch.tensor([[2.0, 0.301]])
    assert modes(torch.cat([inside, outside]), RING).high_quality == 0.5
    assert modes(outside, RING, radius=4.0).high_quality == 1.0
    assert modes(outside, RING, sigma=0.2).high_quality == 1.0


def test_samples_between_modes_are_of_no_quality():
    assert modes(torch.zeros(100, 2), RING) == (0, 0.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="centres: wants 3 columns, as x has, got 2"):
        modes(torch.zeros(5, 3), RING)
    with pytest.raises(ValueError, match="x: wants at least 1 samples, got 0"):
        modes(torch.zeros(0, 2), RING)
    with pytest.raises(ValueError, match="x: wants finite features, got NaN or inf in 1 of 2 rows"):
        modes(torch.tensor([[0.0, torch.nan], [0.0, 0.0]]), RING)
    with pytest.raises(ValueError, match="sigma: wants a positive number, got 0"):
        modes(torch.zeros(5, 2), RING, sigma=0)
