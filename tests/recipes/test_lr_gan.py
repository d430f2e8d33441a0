"""lr-gan: learnt without any mask, the mask overlaps a bright square on texture by 0.5; another background leaves nine tenths of it
as they were; an empty mask gives the background itself."""

import math

import torch
from torch import Tensor

from gancore.core import DataSpec, Options
from gancore.data import Dataset
from gancore.nets.layered import Layered, paste, transform
from gancore.recipes import get
from gancore.trainer import Trainer
from tests.accept import Clause, at_least, at_most, between, seeded

STEPS, COUNT, SIDE = 800, 1000, 16
CHANGED = 0.1  # of a range of 2


def accept(seed: int) -> list[Clause]:
    options = Options(steps=STEPS, batch_size=64, seed=seed)
    spec = DataSpec((1, SIDE, SIDE), net="dcgan", width=16)
    recipe = get("lr-gan").function(extent=0.6, lr=1e-3)
    trainer = Trainer(recipe, Dataset("squares", squares()), options, spec, torch.device("cpu"))
    with trainer.random():
        for _ in range(STEPS):
            trainer.step()
    G = trainer.average.nets["G"].eval()
    with seeded(seed), torch.no_grad():
        z, other = torch.randn(2, COUNT, G.latent)
        other[:, G.background.latent :] = z[:, G.background.latent :]
        found, swapped = G.layers(z), G(other)
    bright, mask = found.result > 0, found.masks[0] > 0.5
    overlap = (bright & mask).flatten(1).sum(1) / (bright | mask).flatten(1).sum(1).clamp(min=1)
    changed = (swapped - found.result).abs() > CHANGED
    return [
        at_least("overlap of mask and bright square, mean IoU", overlap.mean(), 0.5),
        at_most("pixels in the mask that another background changes, share", changed[mask].float().mean(), 0.1),
        at_least("pixels outside that it changes, share", changed[~mask].float().mean(), 0.3),
        between("bright pixels, of those in the data", bright.float().mean() / (squares()["x"] > 127).float().mean(), 0.7, 1.3),
    ]


def squares(count: int = 8192, seed: int = 5) -> dict[str, Tensor]:
    """Images (count, 1, 16, 16): a bright square of side 5 to 7 anywhere on a dark pattern of waves, of any phase."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(SIDE) + 0.5
    phase = 2 * math.pi * torch.rand(count, 2, 1, generator=generator)
    wave = torch.sin(axis * math.pi / 2 + phase)
    texture = 0.2 + 0.15 * wave[:, 0, None, :] * wave[:, 1, :, None]
    half = 2.5 + torch.rand(count, 1, generator=generator)
    centre = half + (SIDE - 2 * half) * torch.rand(count, 2, generator=generator)
    near = (axis - centre[:, :, None]).abs() < half[:, :, None]
    image = torch.where(near[:, 0, None, :] & near[:, 1, :, None], torch.tensor(0.95), texture)
    return {"x": (255 * image).round().to(torch.uint8)[:, None]}


def generator(objects: int = 1, **settings: float) -> Layered:
    with seeded(0):
        return Layered(DataSpec((2, SIDE, SIDE), net="dcgan", width=8), objects, codes=6, hidden=5, **settings).eval()


@torch.no_grad()
def test_an_empty_mask_gives_the_background_exactly():
    G = generator()
    z = torch.randn(4, G.latent)
    assert not torch.equal(G(z), G.layers(z).background)
    for w in (G.foreground.last.weight, G.foreground.last.bias):
        w.view(-1, *w.shape[1:]).zero_()
    G.foreground.last.bias[-1] = -1e4
    found = G.layers(z)
    assert torch.equal(found.result, G.background(z[:, : G.background.latent]))
    assert not found.masks[0].any()


@torch.no_grad()
def test_objects_are_pasted_in_turn():
    G = generator(objects=3)
    found = G.layers(torch.randn(4, G.latent))
    expected = found.background
    for image, mask in zip(found.images, found.masks, strict=True):
        expected = mask * image + (1 - mask) * expected
    torch.testing.assert_close(found.result, expected)
    assert len(found.images) == 3


@torch.no_grad()
def test_an_object_depends_on_those_before_it_and_on_no_background():
    G = generator(objects=2)
    z = torch.randn(4, G.latent)
    cut = G.background.latent
    first, background = z.clone(), z.clone()
    first[:, cut : cut + 6] += 1
    background[:, :cut] += 1
    one, two, three = (G.layers(v) for v in (z, first, background))
    assert not torch.allclose(one.masks[1], two.masks[1])
    assert all(torch.equal(a, b) for a, b in zip(one.masks, three.masks, strict=True))
    assert torch.equal(one.background, two.background)


def test_a_transform_shrinks_moves_and_is_empty_outside():
    image = torch.arange(16.0).view(1, 1, 4, 4) + 1
    same = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(transform(image, same), image)
    moved = transform(image, torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]))  # by half the width
    torch.testing.assert_close(moved[..., :2], image[..., 2:])
    assert not moved[..., 2:].any()
    small = transform(torch.ones(1, 1, 4, 4), torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]]))
    assert small[0, 0, 1:3, 1:3].eq(1).all()
    assert small.sum() == 4


@torch.no_grad()
def test_frames_lie_within_the_image():
    G = generator(extent=0.5)
    maps = G.affine(10 * torch.randn(200, 5))
    scale = maps[:, (0, 1), (0, 1)]
    assert scale.min() >= 2
    assert ((maps[:, :, 2].abs() + 1) / scale <= 1 + 1e-6).all()


def test_paste_takes_either_where_the_mask_is_whole():
    below, image = torch.randn(2, 1, 3, 2, 2)
    assert torch.equal(paste(below, image, torch.ones(1, 1, 2, 2)), image)
    assert torch.equal(paste(below, image, torch.zeros(1, 1, 2, 2)), below)


def test_gradients_reach_background_memory_drawing_and_place():
    G = generator(objects=2).train()
    G(torch.randn(4, G.latent)).square().sum().backward()
    still = [name for name, w in G.named_parameters() if w.grad is None or not w.grad.any()]
    assert not still
