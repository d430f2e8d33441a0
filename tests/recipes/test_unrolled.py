"""unrolled: 5 steps ahead 8 modes of ring8 at a share of 0.75, 0 ahead at most 3, where it is gan-ns; gradients pass through."""

import pytest
import torch
from torch.func import functional_call

import gancore
from gancore import losses
from gancore.core import DataSpec, Nets, State, UsageError
from gancore.recipes import get
from gancore.unrolling import descent, own_rule, unroll
from tests.accept import RING, Clause, at_least, at_most, quiet, seeded

PLAIN = quiet({**RING, "schedule": "constant", "ema": 0.0, "rate": 0.03})


def accept(seed: int) -> list[Clause]:
    ahead = gancore.train("unrolled", seed=seed, **PLAIN).evaluate()
    return [at_least("modes of ring8", ahead["modes"], 8), at_least("high-quality share", ahead["hq"], 0.75)]


def controls(seed: int) -> list[Clause]:
    here = gancore.train("unrolled", seed=seed, ahead=0, **PLAIN)
    return [at_most("control: modes at 0 steps ahead", here.evaluate()["modes"], 3)]


def players(**parameters: float) -> tuple:
    recipe = get("unrolled").function(**parameters)
    with seeded(0):
        nets = Nets(recipe.nets(DataSpec((2,), width=8)))
        return recipe, nets, {"x": torch.randn(16, 2), "z": torch.randn(16, 16)}


def test_at_no_steps_it_is_gan_ns():
    recipe, nets, batch = players(ahead=0)
    plain = get("gan-ns").function()
    for ours, theirs in zip(recipe.stages[0].phases, plain.stages[0].phases, strict=True):
        for name, term in theirs.loss(nets, batch, State()).items():
            assert torch.equal(term, ours.loss(nets, batch, State())[name])


def loss_of(nets: Nets, batch: dict, fake: torch.Tensor):
    pair = (batch["x"], fake)
    return lambda weights: losses.non_saturating.critic(*(functional_call(nets.D, weights, (x,)) for x in pair)).mean()


def learn(nets: Nets, batch: dict, fake: torch.Tensor, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        losses.non_saturating.critic(nets.D(batch["x"]), nets.D(fake)).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["descent", "adam", "adam with decay"])
def test_the_unrolled_weights_are_the_optimisers(name):
    _, nets, batch = players()
    fake = nets.G(batch["z"]).detach()
    if name == "descent":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(nets.D.parameters(), 0.1)
        rule = descent(0.1)
    else:
        optimizer = torch.optim.Adam(nets.D.parameters(), 0.01, (0.5, 0.9), weight_decay=0.1 if "decay" in name else 0.0)
        learn(nets, batch, fake, optimizer, 2)  # so that it stands somewhere
        rule = own_rule(optimizer, nets.D)
    before = {name: w.clone() for name, w in nets.D.state_dict().items()}
    found = unroll(nets.D, loss_of(nets, batch, fake), 3, rule)
    assert all(torch.equal(before[name], w) for name, w in nets.D.state_dict().items())
    learn(nets, batch, fake, optimizer, 3)
    for name, w in nets.D.state_dict().items():
        torch.testing.assert_close(found[name], w)
        assert not torch.equal(before[name], w)


@pytest.mark.parametrize("name", ["descent", "adam"])
def test_the_gradient_through_the_steps_is_that_of_differences(name):
    network = torch.nn.Linear(3, 1).double()
    data = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    rule = lambda: descent(0.1) if name == "descent" else own_rule(optimizer, network)

    def ahead(x: torch.Tensor) -> torch.Tensor:
        loss = lambda weights: (functional_call(network, weights, (x,)).tanh() * x.sum(1, True)).square().mean()
        return functional_call(network, unroll(network, loss, 3, rule()), (x,)).square().sum()

    assert torch.autograd.gradcheck(ahead, data.requires_grad_())


def test_a_unit_that_nothing_reaches_leaves_the_gradient_finite():
    network = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    with torch.no_grad():
        network[0].bias[0] = -100.0
    x = torch.linspace(0, 1, 4).view(-1, 1).requires_grad_()
    rule = own_rule(torch.optim.Adam(network.parameters()), network)
    weights = unroll(network, lambda w: functional_call(network, w, (x,)).square().mean(), 2, rule)
    assert torch.autograd.grad(functional_call(network, weights, (x,)).sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.RMSprop(p), lambda p: torch.optim.Adam(p, amsgrad=True)])
def test_rules_that_are_not_known_are_refused(optimizer):
    network = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match="plain Adam"):
        own_rule(optimizer(network.parameters()), network)


def test_the_gradient_passes_through_the_critics_learning():
    recipe, nets, batch = players(ahead=3, rate=0.5)
    exact, cut = (torch.autograd.grad(generator_loss(nets, batch, detach), list(nets.G.parameters())) for detach in (False, True))
    ours = recipe.stages[0].phases[1].loss(nets, batch, State())["generator"].mean()
    for a, b in zip(torch.autograd.grad(ours, list(nets.G.parameters())), exact, strict=True):
        torch.testing.assert_close(a, b)
    assert max(float((a - b).abs().max()) for a, b in zip(exact, cut, strict=True)) > 1e-4


def generator_loss(nets: Nets, batch: dict, detach: bool) -> torch.Tensor:
    fake = nets.G(batch["z"])
    weights = unroll(nets.D, loss_of(nets, batch, fake.detach() if detach else fake), 3, descent(0.5))
    return losses.non_saturating.generator(functional_call(nets.D, weights, (fake,))).mean()


def test_a_run_unrolls_its_own_optimiser():
    run = gancore.train("unrolled", seed=0, data="ring8", net="toy", steps=3, batch_size=16, rate=0.0, ahead=2)
    assert run.evaluate(100)["modes"] >= 0
