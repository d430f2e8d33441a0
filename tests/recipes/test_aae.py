"""aae: DIG(10, 9); the critic of codes is near chance; it never sees x; without its phases an auto-encoder is left."""

import torch

import gancore
from gancore.runs import open_run
from tests.accept import Clause, between, dig, seeded

SETTINGS = {"codes": 8, "prior": 0.5, "lr": 1e-3}


def accept(seed: int) -> list[Clause]:
    run, clauses = dig("aae", 10, 9, seed, **SETTINGS)
    nets = run.trainer.nets
    with seeded(seed), torch.no_grad():
        codes = nets["E"](run.data.all()["x"])
        drawn = torch.randn_like(codes)
        balanced = 0.5 * ((nets["D"](drawn) > 0).float().mean() + (nets["D"](codes) < 0).float().mean())
    return [*clauses, between("balanced accuracy of the critic of codes", balanced.item(), 0.50, 0.62)]


def test_critic_takes_codes_only():
    run = open_run("aae", data="digits8", steps=1, codes=5)
    first = next(run.nets["D"].parameters())
    assert first.shape[1] == 5


def test_without_the_prior_no_code_is_judged():
    run = gancore.train("aae", data="digits8", steps=3, batch_size=16, prior=0.0, log_every=1)
    assert {key for key in run.metrics[-1] if "/" in key and not key.startswith("metric")} == {"reconstruct/reconstruction"}


def test_without_the_prior_it_is_an_auto_encoder():
    """The decoder and encoder follow plain gradient steps on |x - G(E(x))|^2."""
    run = open_run("aae", data="digits8", steps=4, batch_size=16, prior=0.0, seed=5)
    twin = open_run("aae", data="digits8", steps=4, batch_size=16, prior=0.0, seed=5)
    players = twin.trainer.nets
    optim = torch.optim.Adam([*players["E"].parameters(), *players["G"].parameters()], lr=1e-3, betas=(0.5, 0.999), fused=True)
    with twin.trainer.random():
        for _ in range(4):
            batch = twin.trainer._draw(twin.recipe.stages[0])
            optim.zero_grad()
            ((batch["x"] - players["G"](players["E"](batch["x"]))) ** 2).flatten(1).sum(1).mean().backward()
            optim.step()
    run.train()
    for player in ("E", "G"):
        for a, b in zip(run.trainer.nets[player].parameters(), players[player].parameters(), strict=True):
            torch.testing.assert_close(a, b)
