"""mrgan: RING(0.65); a mode of 1 % of the data is covered, which gan-ns leaves out for at least two of three seeds."""

import torch

from gancore import data
from gancore.core import DataSpec, Nets, Options, State
from gancore.data import Dataset
from gancore.recipes import get
from gancore.trainer import Trainer
from tests.accept import Clause, at_least, ring, seeded

RARE, SHARE = 3, 0.01
STEPS, BATCH, LR = 1500, 256, 1e-3
COVERED = SHARE / 5  # a fifth of its share


def accept(seed: int) -> list[Clause]:
    _, clauses = ring("mrgan", 0.65, seed)
    held = rare_share("mrgan", seed, codes=2)
    return [*clauses, at_least("share of samples at a mode of 1 % of the data", held, COVERED)]


def controls(seed: int) -> list[Clause]:
    missed = sum(rare_share("gan-ns", 3 * seed + k) < COVERED for k in range(3))
    return [at_least("control: seeds of 3 for which gan-ns leaves that mode out", missed, 2)]


def thinned() -> Dataset:
    """ring8 with the mode RARE brought down to SHARE of the data."""
    whole = data.load("ring8").fields
    rare = (whole["y"] == RARE).nonzero()[:, 0]
    others = (whole["y"] != RARE).nonzero()[:, 0]
    rows = torch.cat([others, rare[: round(SHARE / (1 - SHARE) * len(others))]])
    return Dataset("thinned ring8", {"x": whole["x"][rows], "y": whole["y"][rows]}, classes=8)


def rare_share(name: str, seed: int, **parameters: int) -> float:
    """Share of samples of high quality at the rare mode, after training on thinned ring8."""
    options = Options(steps=STEPS, batch_size=BATCH, seed=seed, schedule="linear")
    trainer = Trainer(get(name).function(lr=LR, **parameters), thinned(), options, DataSpec((2,)), torch.device("cpu"))
    with trainer.random():
        for _ in range(STEPS):
            trainer.step()
    G, judge = trainer.average.nets["G"], data.oracle("ring8")
    with seeded(seed), torch.no_grad():
        samples = G(torch.randn(20_000, G.latent))
    return ((samples - judge.centres[RARE]).norm(dim=1) <= 3 * judge.sigma).float().mean().item()


def start() -> tuple[Nets, dict, dict]:
    with seeded(0):
        nets = Nets(get("mrgan").function().nets(DataSpec((2,), width=8)))
        batch = {"x": torch.randn(6, 2), "z": torch.randn(6, nets.G.latent)}
    return nets, batch, {p.name: p for p in get("mrgan").function(distance=3.0).stages[0].phases}


def test_the_manifold_step_is_about_reconstructions():
    nets, batch, phases = start()
    again = nets.G(nets.E(batch["x"]))
    found = phases["manifold"].loss(nets, batch, State())
    torch.testing.assert_close(found["distance"], (batch["x"] - again).square().sum(1))
    torch.testing.assert_close(found["generator"], -torch.sigmoid(nets.M(again)).log())
    expected = -torch.sigmoid(nets.M(batch["x"])).log() - (1 - torch.sigmoid(nets.M(again))).log()
    torch.testing.assert_close(phases["manifold critic"].loss(nets, batch, State())["critic"], expected)
    assert phases["manifold"].updates == {"G": {"distance": 3.0, "generator": 1.0}, "E": {"distance": 3.0, "generator": 1.0}}


def test_the_diffusion_critic_tells_reconstructions_from_fakes_not_data():
    nets, batch, phases = start()
    again, fake = nets.G(nets.E(batch["x"])), nets.G(batch["z"])
    expected = -torch.sigmoid(nets.D(again)).log() - (1 - torch.sigmoid(nets.D(fake))).log()
    torch.testing.assert_close(phases["diffusion critic"].loss(nets, batch, State())["critic"], expected)
    assert not torch.allclose(nets.D(again), nets.D(batch["x"]))
    torch.testing.assert_close(phases["diffusion"].loss(nets, batch, State())["generator"], -torch.sigmoid(nets.D(fake)).log())


def test_each_step_moves_its_own_players():
    _, _, phases = start()
    assert {name: set(p.updates) for name, p in phases.items()} == {
        "manifold critic": {"M"},
        "manifold": {"G", "E"},
        "diffusion critic": {"D"},
        "diffusion": {"G"},
    }


def test_the_rare_mode_has_one_hundredth_of_the_data():
    y = thinned().fields["y"]
    assert abs((y == RARE).float().mean().item() - SHARE) < 1e-4
    assert torch.bincount(y, minlength=8).ne(0).all()
