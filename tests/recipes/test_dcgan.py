"""dcgan: 64x64 output in [-1, 1], no pooling, no hidden dense layer; on shapes16 FID falls to 0.3 of untrained, 8 of 9 classes."""

import torch
from torch import nn

import gancore
from gancore import data, evaluation
from gancore.core import DataSpec
from gancore.recipes import get
from gancore.runs import open_run
from tests.accept import Clause, at_least, at_most, quiet

SHAPES = {"data": "shapes16", "steps": 3000, "batch_size": 64, "width": 32}


def accept(seed: int) -> list[Clause]:
    options = quiet(SHAPES)
    untrained = open_run("dcgan", seed=seed, **options).evaluate()["fid"]
    scores = gancore.train("dcgan", seed=seed, **options).evaluate()
    return [
        at_most("feature FID on shapes16, of untrained", scores["fid"] / untrained, 0.3),
        at_least("shape and colour classes of 9", scores["classes"], 8),
    ]


def test_architecture_of_the_paper():
    players = get("dcgan").function().nets(DataSpec((3, 64, 64), net="dcgan"))
    with torch.no_grad():
        image = players["G"].eval()(torch.randn(2, 100))
    assert image.shape == (2, 3, 64, 64)
    assert image.abs().max() <= 1
    layers = [m for net in players.values() for m in net.modules()]
    assert not any("Pool" in type(m).__name__ for m in layers)
    assert not any(isinstance(m, nn.Linear) for m in layers)


def test_the_body_is_dcgan_whatever_net_says():
    run = open_run("dcgan", data="digits", size=16, net="toy", steps=1, width=8)
    assert any(isinstance(m, nn.ConvTranspose2d) for m in run.nets["G"].modules())


def test_shapes16_has_a_judge_of_nine_classes():
    images = data.load("shapes16")
    assert evaluation.judge(images).probabilities(images.take(torch.arange(8))["x"]).shape == (8, 9)
