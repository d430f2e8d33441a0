"""gran: on bars16 the FID of the canvas never rises with a stroke; with one stroke, G is dcgan's on the code tanh(W z)."""

import torch

import gancore
from gancore import evaluation
from gancore.core import DataSpec
from gancore.nets import dcgan
from gancore.nets.canvas import Canvas
from gancore.recipes import get
from gancore.runs import open_run
from tests.accept import Clause, at_most, quiet, seeded

BARS = {"data": "bars16", "steps": 1600, "batch_size": 64, "width": 32, "lr": 5e-4, "schedule": "linear"}


def accept(seed: int) -> list[Clause]:
    untrained = open_run("gran", seed=seed, **quiet(BARS)).evaluate()["fid"]
    run = gancore.train("gran", seed=seed, **quiet(BARS))
    canvas = run.nets["G"].eval()
    with seeded(seed), torch.no_grad():
        z = torch.randn(2000, canvas.latent)
        fid = [evaluation.scores(lambda n, x=x: x, run.data)["fid"] for x in canvas.canvases(z)]
    return [
        at_most("feature FID on bars16 after stroke 2, of stroke 1", fid[1] / fid[0], 1),
        at_most("feature FID on bars16 after stroke 3, of stroke 2", fid[2] / fid[1], 1),
        at_most("feature FID on bars16, of untrained", fid[2] / untrained, 0.3),
    ]


def players(strokes: int, codes: int = 6) -> dict:
    with seeded(0):
        return get("gran").function(strokes=strokes, codes=codes).nets(DataSpec((1, 16, 16), width=8))


def test_one_stroke_is_dcgan_on_the_code():
    canvas = players(1)["G"]
    plain = dcgan.Generator(DataSpec((1, 16, 16), width=8))
    weights = {name: w for name, w in canvas.state_dict().items() if not name.startswith(("read", "look"))}
    weights["convs.0.weight"] = weights["convs.0.weight"][: plain.latent]
    plain.load_state_dict(weights)
    z = torch.randn(5, canvas.latent)
    with torch.no_grad():
        torch.testing.assert_close(canvas(z), plain(torch.tanh(canvas.read(z))), rtol=0, atol=1e-6)
        assert (players(2)["G"](z) - plain(torch.tanh(canvas.read(z)))).abs().max() > 1e-4


@torch.no_grad()
def test_strokes_add_up_and_each_sees_the_one_before():
    canvas: Canvas = players(3)["G"].eval()
    z = torch.randn(5, canvas.latent)
    fixed, seen, total = torch.tanh(canvas.read(z)), torch.zeros(5, 6), 0
    for found in canvas.canvases(z):
        stroke = canvas.stroke(torch.cat([fixed, seen], 1))
        total = total + stroke
        torch.testing.assert_close(found, torch.tanh(total))
        seen = canvas.look(stroke)
    assert torch.equal(found, canvas(z))


def test_the_last_canvas_moves_the_encoder():
    canvas = players(2)["G"]
    canvas(torch.randn(5, canvas.latent)).square().sum().backward()
    assert all(w.grad is not None and w.grad.any() for name, w in canvas.named_parameters() if "bias" not in name)
