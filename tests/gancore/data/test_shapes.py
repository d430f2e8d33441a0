"""Shapes, pairs and bars: what their columns say is what the pixels show, and their judges read it from images they never saw."""

from gancore import data
from gancore.data.classifier import accuracy
from gancore.data.toy import shapes


def test_the_judge_of_shapes_reads_fresh_images():
    mask, factors = shapes.draw(4_000, seed=1_000)
    images = shapes.pixels(shapes.paint(mask, factors["colour"])) / 127.5 - 1
    judge = data.oracle("shapes16")
    found = accuracy(judge, images, {name: factors[name] for name in ("shape", "colour")})
    assert min(found.values()) >= 0.98, found
    assert min(judge.test_accuracy.values()) >= 0.98
    assert judge.classes == 9
    assert (judge.predict(images) == 3 * factors["shape"] + factors["colour"]).float().mean() >= 0.98
