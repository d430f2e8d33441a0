"""The two files that `gancore new` writes. NAME and IDENTITY stand for the function and the id."""

RECIPE = '''"""IDENTITY, after <authors> <year>, arXiv:<number>. What it changes, in one sentence.

D: max E log s(D(x)) + E log(1 - s(D(G(z)))) - penalty E |grad D(x)|^2. G: max E log s(D(G(z))).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore import nets
from gancore.core import Batch, DataSpec, Field, Nets, Phase, Recipe, Stage, State, Terms, adam, noise, recipe


# Parameters of this function are options of the command line: gancore train NAME.py --penalty 0.5
@recipe
def NAME(penalty: float = 0.1, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """penalty: weight of the critic's squared gradient on data. critic_steps: critic updates a step. lr: Adam's rate."""

    # A loss is a pure function of networks, batch and state to named terms, scalars or (N,), which the loop averages.
    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = batch["x"], nets["G"](batch["z"])
        return {
            "real": F.softplus(-nets["D"](real)),
            "fake": F.softplus(nets["D"](fake)),
            "penalty": squared_gradient(nets, real),
        }

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"generator": F.softplus(-nets["D"](nets["G"](batch["z"])))}

    # A phase says who descends what: player -> {term: weight}. All other players are frozen while it runs.
    phases = [
        Phase("critic", {"D": {"real": 1.0, "fake": 1.0, "penalty": penalty}}, critic, repeats=critic_steps),
        Phase("generator", {"G": {"generator": 1.0}}, generator),
    ]
    return Recipe(
        nets=_players,
        optims={"G": adam(lr), "D": adam(lr)},
        stages=[Stage("adversarial", 1.0, phases)],
        # What a batch holds: the data's column "x", and noise of the size that G takes.
        data={"x": Field("x"), "z": noise("G")},
    )


def squared_gradient(nets: Nets, x: Tensor) -> Tensor:
    """|grad D(x)|^2 of each sample (N,), differentiable once more."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nets["D"](x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def _players(spec: DataSpec) -> dict:
    # Bodies that fit the data: an MLP for vectors and small images, DCGAN for larger ones.
    return {"G": nets.generator(spec), "D": nets.critic(spec, norm=False)}
'''

TEST = '''"""IDENTITY: its terms by hand, who moves in which phase, and a short run."""

from pathlib import Path

import torch
from torch import nn

import gancore
from gancore.recipes import get

FILE = str(Path(__file__).with_name("NAME.py"))


def test_terms_have_the_values_computed_by_hand():
    critic = nn.Linear(2, 1, bias=False)
    nn.init.constant_(critic.weight, 3.0)
    nets = nn.ModuleDict({"G": nn.Identity(), "D": nn.Sequential(critic, nn.Flatten(0))})
    phase = get(FILE).function().stages[0].phases[0]
    terms = phase.loss(nets, {"x": torch.zeros(4, 2), "z": torch.zeros(4, 2)}, gancore.core.State())
    # D(0) = 0, so both scores cost log 2; its gradient is (3, 3) everywhere, whose square is 18.
    torch.testing.assert_close(terms["real"], torch.full((4,), 2.0).log())
    torch.testing.assert_close(terms["fake"], torch.full((4,), 2.0).log())
    torch.testing.assert_close(terms["penalty"], torch.full((4,), 18.0))


def test_every_player_learns():
    run = gancore.train(FILE, data="ring8", steps=1, batch_size=16)
    fresh = gancore.train(FILE, data="ring8", steps=1, batch_size=16, lr=0.0)
    for player in ("G", "D"):
        pairs = zip(run.trainer.nets[player].parameters(), fresh.trainer.nets[player].parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs), player


def test_a_short_run_samples_points():
    run = gancore.train(FILE, data="ring8", steps=20, batch_size=16)
    assert run.sample(5).shape == (5, 2)
    assert run.sample(5).isfinite().all()
'''
