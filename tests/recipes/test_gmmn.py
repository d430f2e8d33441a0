"""gmmn: RING(0.55) with bandwidths .1, .25, .5, 1, 2; one optimiser, no discriminator; M and sqrt M pull the same way."""

import math

import torch

import gancore
from gancore.core import DataSpec, State
from gancore.recipes import get
from tests.accept import Clause, between, ring, seeded

BANDWIDTHS = (0.1, 0.25, 0.5, 1.0, 2.0)


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("gmmn", 0.55, seed, bandwidths=BANDWIDTHS)
    others = sum(p.numel() for name, net in run.trainer.nets.items() if name != "G" for p in net.parameters())
    return [
        *clauses,
        between("optimisers", len(run.trainer.optims), 1, 1),
        between("parameters of a discriminator", others, 0, 0),
    ]


def terms(**parameters):
    """The one term, G and its gradient on fixed noise and data."""
    recipe = get("gmmn").function(**parameters)
    with seeded(0):
        nets = torch.nn.ModuleDict(recipe.nets(DataSpec((2,)))).double()
        nets.G = nets["G"]
        batch = {"x": 2 * torch.randn(12, 2, dtype=torch.float64), "z": torch.randn(9, nets.G.latent, dtype=torch.float64)}
    value = recipe.stages[0].phases[0].loss(nets, batch, State())["mmd"]
    gradient = torch.autograd.grad(value, list(nets.G.parameters()))
    return value.detach(), nets.G(batch["z"]).detach(), batch["x"], torch.cat([g.flatten() for g in gradient])


def test_is_the_root_of_the_biased_formula():
    value, g, x, _ = terms(bandwidths=BANDWIDTHS)

    def mean(a, b):
        return sum(
            math.exp(-float(((p - q) ** 2).sum()) / (2 * s * s)) / (len(a) * len(b)) for p in a for q in b for s in BANDWIDTHS
        )

    assert math.isclose(float(value) ** 2, mean(g, g) + mean(x, x) - 2 * mean(g, x), rel_tol=1e-10)


def test_the_root_pulls_as_the_square_does_and_harder_near_the_goal():
    value, _, _, of_root = terms(bandwidths=BANDWIDTHS)
    square, _, _, of_square = terms(bandwidths=BANDWIDTHS, root=False)
    torch.testing.assert_close(value**2, square)
    torch.testing.assert_close(2 * value * of_root, of_square)


def test_bandwidths_matter():
    assert not torch.isclose(terms(bandwidths=(1.0,))[0], terms(bandwidths=(2.0,))[0])


def test_g_is_the_only_player_and_has_the_only_optimiser():
    run = gancore.train("gmmn", data="ring8", steps=2, batch_size=16, log_every=1)
    assert list(run.nets) == ["G"]
    assert list(run.trainer.optims) == ["G"]
