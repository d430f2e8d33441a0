"""veegan: 8 modes of ring8 at a share of 0.65; codes read back to 0.05 beyond F's noise; without noise modes are lost."""

import torch

from gancore.core import Nets, State
from gancore.recipes import get
from gancore.runs import Run
from tests.accept import Clause, at_least, at_most, ring, seeded

NOISE = 0.3


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("veegan", 0.65, seed, modes=8, steps=6000, noise=NOISE)
    # A pair (x, F(x) + noise) and a pair (G(z), z) have one law in the end, and there z lies around F(G(z)) as far as the noise.
    return [*clauses, at_most("squared error of codes read back, beyond the noise", error(run, seed) - NOISE**2, 0.05)]


def controls(seed: int) -> list[Clause]:
    still, _ = ring("veegan", 0.65, seed, modes=8, steps=6000, noise=0.0)
    apart, _ = ring("veegan", 0.65, seed, modes=8, steps=6000, weight=0.0)
    return [
        at_most("control: modes without noise", still.evaluate()["modes"], 7),
        at_least("control: squared error of codes read back without a reconstruction", error(apart, seed), 0.5),
    ]


def error(run: Run, seed: int) -> float:
    """Mean over samples and coordinates."""
    with seeded(seed), torch.no_grad():
        z = torch.randn(4096, 2)
        return (run.trainer.nets["F"](run.trainer.nets["G"](z)) - z).square().mean().item()


def test_errors_are_measured_in_codes_and_the_generator_wants_its_pairs_to_look_like_data():
    recipe = get("veegan").function()
    nets = Nets({"G": torch.nn.Linear(2, 3, bias=False), "F": torch.nn.Linear(3, 2, bias=False), "D": torch.nn.Identity()})
    nets["D"].forward = lambda x, z: x.sum(1) + z.sum(1)
    batch = {"x": torch.randn(8, 3), "z": torch.randn(8, 2)}
    terms = recipe.stages[0].phases[1].loss(nets, batch, State())
    fake = nets["G"](batch["z"])
    torch.testing.assert_close(terms["reconstruction"], (batch["z"] - nets["F"](fake)).square().sum(1))
    torch.testing.assert_close(terms["generator"], fake.sum(1) + batch["z"].sum(1))
    assert recipe.stages[0].phases[1].updates == {"G": {"generator": 1.0, "reconstruction": 0.1}, "F": {"reconstruction": 0.1}}


def test_the_reconstructor_spreads_its_codes():
    recipe = get("veegan").function(noise=0.5)
    seen = []
    nets = Nets({"G": torch.nn.Linear(2, 3), "F": torch.nn.Linear(3, 2), "D": torch.nn.Identity()})
    nets["D"].forward = lambda x, z: seen.append((x, z)) or z.sum(1)
    with seeded(0):
        x = torch.randn(4096, 3)
        recipe.stages[0].phases[0].loss(nets, {"x": x, "z": torch.randn(4096, 2)}, State())
    off = seen[1][1] - nets["F"](x)
    assert abs(off.std().item() - 0.5) < 0.02
