"""lapgan: on shapes16 samples have half the FID of their coarse images doubled, data with details a quarter; exact pyramids."""

import pytest
import torch
from torch.nn.functional import softplus

import gancore
from gancore import evaluation
from gancore.core import DataSpec, Nets, State, UsageError
from gancore.nets.pyramid import Pyramid, down, merge, split, up
from gancore.recipes import get
from gancore.recipes.architecture.lapgan import band
from tests.accept import Clause, at_most, quiet, seeded

SHAPES = {"data": "shapes16", "steps": 2800, "batch_size": 64, "width": 32, "coarse": 1.3, "conditional": True, "lr": 5e-4}


def accept(seed: int) -> list[Clause]:
    run = gancore.train("lapgan", seed=seed, **quiet(SHAPES))
    G, some = run.nets["G"].eval(), run.data.take(torch.arange(2000))
    x, y = some["x"], some["y"]
    with seeded(seed), torch.no_grad():
        smooth = up(G.members[-1](torch.randn(2000, G.sizes[-1]), y))
        doubled = up(down(x))
        finished = (doubled + G.members[0](torch.randn(2000, G.sizes[0]), doubled, y)).clamp(-1, 1)
    fid = lambda images: evaluation.scores(lambda n: images, run.data)["fid"]
    return [
        at_most("feature FID on shapes16 of details on coarse data, of those without", fid(finished) / fid(doubled), 0.25),
        at_most("feature FID of samples, of their coarse images doubled", run.evaluate()["fid"] / fid(smooth), 0.5),
        at_most("largest error of a pyramid split and merged", (merge(split(x[:256], 3)) - x[:256]).abs().max(), 1e-6),
    ]


def players(levels: int = 2, shape: tuple[int, ...] = (3, 16, 16), **options: bool) -> Nets:
    with seeded(0):
        return Nets(get("lapgan").function(levels=levels, **options).nets(DataSpec(shape, classes=4, width=8)))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_pyramid_is_split_and_merged_exactly(levels: int):
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    bands = split(x, levels)
    assert [len(b[0, 0]) for b in bands] == [16, 8, 4][:levels]
    torch.testing.assert_close(merge(bands), x, rtol=0, atol=1e-6)


def test_down_blurs_and_up_stays_in_range():
    x = torch.zeros(1, 1, 1, 16)
    x[..., 7] = 1
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    spread = down(x.expand(1, 1, 16, 16))[0, 0, 4]
    torch.testing.assert_close(spread[2:6], torch.tensor([0.0, taps[2], taps[0], 0.0]))
    y = torch.rand(2, 1, 8, 8)
    assert up(y).max() <= y.max()
    assert up(y).min() >= y.min()


@torch.no_grad()
def test_without_details_a_sample_is_the_coarse_one_doubled():
    G = players()["G"]
    z = torch.randn(4, G.latent)
    assert not torch.equal(G(z), up(G.members[-1](G.noise(z)[-1])))
    for w in G.members[0].convs[-1].parameters():
        w.zero_()
    assert torch.equal(G(z), up(G.members[-1](G.noise(z)[-1])))


def test_levels_learn_apart_the_coarsest_first():
    """No level's term moves another level."""
    nets, recipe = players(), get("lapgan").function(coarse=3.0)
    batch = {"x": torch.rand(4, 3, 16, 16) * 2 - 1, "z": torch.randn(4, nets.G.latent)}
    assert [(stage.name, stage.share) for stage in recipe.stages] == [("level 1", 3.0), ("level 0", 1.0)]
    for k, stage in zip((1, 0), recipe.stages, strict=True):
        for phase, player in zip(stage.phases, "DG", strict=True):
            terms = phase.loss(nets, batch, State())
            assert phase.updates == {player: {phase.name: 1.0}}
            with torch.no_grad():
                judge, real, fake, told = band(nets, batch, k)
                scores = judge(real, *told), judge(fake, *told)
                wanted = {"D": softplus(-scores[0]) + softplus(scores[1]), "G": softplus(-scores[1])}[player]
            torch.testing.assert_close(terms[phase.name].detach(), wanted)
            nets.zero_grad()
            terms[phase.name].mean().backward()
            moved = [any(w.grad is not None and w.grad.any() for w in member.parameters()) for member in nets[player].members]
            assert moved == [k == 0, k == 1]


def test_critics_see_the_bands_of_data():
    nets, x = players(levels=3, shape=(3, 32, 32)), torch.rand(4, 3, 32, 32) * 2 - 1
    batch = {"x": x, "z": torch.randn(4, nets.G.latent)}
    for k, wanted in enumerate(split(x, 3)):
        _, real, fake, told = band(nets, batch, k)
        assert torch.equal(real, wanted)
        assert fake.shape == wanted.shape
        assert len(told) == (k < 2)
        assert all(torch.equal(smooth, up(down(x))) for smooth in told)
        x = down(x)


def test_a_fine_critic_is_told_the_smooth_image():
    judge, x = players()["D"].members[0], torch.rand(4, 3, 16, 16)
    assert not torch.allclose(judge(x, torch.zeros_like(x)), judge(torch.zeros_like(x), x))


@torch.no_grad()
def test_every_player_is_told_the_label():
    nets, (one, other) = players(conditional=True), (torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long))
    nets.eval()
    x, z = torch.rand(4, 3, 16, 16), torch.randn(4, nets.G.latent)
    assert nets.G.classes == 4
    for k in range(2):
        _, real, fake, told = band(nets, {"x": x, "y": one, "z": z}, k)
        *_, of_other, told_other = band(nets, {"x": x, "y": other, "z": z}, k)
        assert torch.equal(told[-1], one)
        assert not torch.allclose(fake, of_other)
        assert not torch.allclose(nets.D.members[k](real, *told), nets.D.members[k](real, *told_other))
    assert players()["G"].classes == 0


def test_sides_that_do_not_halve_are_refused():
    with pytest.raises(UsageError, match="sides"):
        Pyramid(DataSpec((1, 6, 6)), 3)
    with pytest.raises(UsageError, match="sides"):
        Pyramid(DataSpec((2,)), 2)
