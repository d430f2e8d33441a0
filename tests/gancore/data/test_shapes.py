"""Shapes and pairs: what their columns say is what the pixels show, and their judge reads it from images it never saw."""

import pytest
import torch

from gancore import data
from gancore.data.classifier import accuracy
from gancore.data.toy import shapes


def test_the_judge_reads_fresh_images():
    mask, factors = shapes.draw(4_000, seed=1_000)
    images = shapes.pixels(shapes.paint(mask, factors["colour"])) / 127.5 - 1
    judge = data.oracle("shapes16")
    found = accuracy(judge, images, {name: factors[name] for name in ("shape", "colour")})
    assert min(found.values()) >= 0.98, found
    assert min(judge.test_accuracy.values()) >= 0.98
    assert judge.classes == 9
    assert (judge.predict(images) == 3 * factors["shape"] + factors["colour"]).float().mean() >= 0.98


def test_shapes():
    dataset = data.load("shapes16")
    columns = dataset.all()
    x, colour, size = columns["x"], columns["colour"], columns["size"]
    assert x.shape == (8_192, 3, 16, 16)
    assert torch.equal(columns["y"], 3 * columns["shape"] + colour)
    light = (x + 1) / 2
    assert torch.equal(light.amax((2, 3)).argmax(1), colour)
    assert light.sum((2, 3)).gt(0).sum(1).unique().tolist() == [1]  # one colour, the rest black
    assert torch.equal(light.amax(1, keepdim=True), (columns["mask"] + 1) / 2)
    assert (shapes.centre(x) - columns["position"]).abs().max() < 0.15
    area = light.sum((1, 2, 3)) / size**2
    for shape, expected in ((0, 4.0), (1, torch.pi * 1.13**2)):
        assert area[columns["shape"] == shape].mean().item() == pytest.approx(expected, rel=0.02)
    assert area[columns["shape"] == 2].mean() < 3.5
    assert size.min() >= 3.5
    assert size.max() <= 5.5
    # In full view.
    assert (size * 1.2 <= columns["position"].amin(1) + 1e-4).all()
    assert (columns["position"].amax(1) + size * 1.2 <= 16 + 1e-4).all()


def test_parts_of_shapes():
    dataset = data.load("shapes16")
    parts = dataset.parts
    for k, name in enumerate(shapes.COLOURS):
        assert parts[name].fields["colour"].unique().tolist() == [k]
    assert sum(len(parts[name]) for name in shapes.COLOURS) == len(dataset)
    assert len(parts["labelled"]) == 819
    assert parts["labelled"].fields["y"].unique().tolist() == list(range(9))
    assert parts["small"].fields["size"].max() <= 2.5
    assert (parts["small"].all()["mask"] + 1).mean() < 0.3 * (dataset.all()["mask"] + 1).mean()
    for target in (parts["coloured"], parts["coloured"].held_out):
        rows = target.take(torch.arange(500))
        behind = torch.where(rows["mask"] > -1, float("nan"), rows["x"])
        assert ((behind + 1) / 2).nan_to_num(0).max() <= 0.61
        low, high = behind.nan_to_num(9).amin((2, 3)), behind.nan_to_num(-9).amax((2, 3))
        assert (high - low).max() < 1.5 / 127.5  # one background for the whole image, to a rounded level
        assert low.std(0).min() > 0.2  # another for the next
    assert len(dataset.held_out) == len(parts["coloured"].held_out) == 2_048


def rows_of(dataset, key):
    return {row.tobytes() for row in dataset.fields[key].numpy()}


def test_pairs_are_aligned():
    pairs, judge = data.load("pairs16"), data.oracle("pairs16")
    for dataset in (pairs, pairs.held_out, pairs.parts["unpaired"]):
        columns = dataset.all()
        target, edge = (columns["target"] + 1) / 2, (columns["x"] + 1) / 2
        assert (judge.predict(columns["target"]) == columns["y"]).float().mean() >= 0.98
        # The outline lies on the shape, in its colour, and leaves its inside open.
        assert (edge <= target + 1 / 255).all()
        assert torch.equal(edge.sum((2, 3)).argmax(1), columns["colour"])
        assert 0.2 < edge.sum() / target.sum() < 0.7
        middle = columns["position"].long()
        square = columns["shape"] == 0
        assert edge[square.nonzero()[:, 0], :, middle[square, 1], middle[square, 0]].max() == 0


def test_no_pair_is_shown_to_systems_that_draw_unpaired():
    pairs = data.load("pairs16")
    seen = rows_of(pairs, "target")
    assert len(rows_of(pairs.parts["unpaired"], "target") & seen) == 0
    assert len(rows_of(pairs.held_out, "target") & seen) == 0
    assert set(pairs.parts["unpaired"].fields) == set(pairs.fields)


def test_edges_by_hand():
    mask = torch.zeros(1, 7, 7)
    mask[0, 1:6, 1:6] = 1
    expected = mask.clone()
    expected[0, 2:5, 2:5] = 0
    assert torch.equal(shapes.edges(mask), expected)
