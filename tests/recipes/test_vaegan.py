"""vaegan: DIG(45, 9); samples sharper than a VAE's; E gets nothing of L_GAN, D nothing of the feature distance."""

import torch

from gancore.runs import open_run
from tests.accept import Clause, at_least, dig
from tests.recipes.test_vae import pixel_deviation

SETTINGS = {"codes": 8, "lr": 1e-3}


def accept(seed: int) -> list[Clause]:
    run, clauses = dig("vaegan", 45, 9, seed, **SETTINGS)
    return [*clauses, at_least("pixel deviation of samples (a VAE's: 0.161)", pixel_deviation(run), 0.19)]


def test_routes_reach_their_players_alone():
    run = open_run("vaegan", data="digits8", steps=1, batch_size=16)
    trainer = run.trainer
    phase = run.recipe.stages[0].phases[0]
    with trainer.random():
        batch = trainer._draw(run.recipe.stages[0])
        torch.manual_seed(1)
        terms = {name: t.mean() for name, t in phase.loss(trainer.nets, batch, trainer.state).items()}
    adversarial = terms["real"] + terms["decoded"] + terms["drawn"]
    expected = {
        "E": terms["divergence"] + terms["features"],
        "G": 0.1 * terms["features"] - terms["decoded"] - terms["drawn"],
        "D": adversarial,
    }
    by_hand = {p: torch.autograd.grad(v, list(trainer.nets[p].parameters()), retain_graph=True) for p, v in expected.items()}
    trainer._backward(phase, terms, 1.0)
    for player, gradients in by_hand.items():
        for parameter, gradient in zip(trainer.nets[player].parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
