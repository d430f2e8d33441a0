"""unrolled: 5 steps ahead 8 modes of ring8 at a share of 0.75, 0 ahead at most 3, where it is gan-ns; gradients pass through."""

import torch

import gancore
from gancore import losses
from gancore.core import DataSpec, Nets, State
from gancore.recipes import get
from gancore.recipes.modes.unrolled import unroll
from tests.accept import RING, Clause, at_least, at_most, quiet, seeded

PLAIN = quiet({**RING, "schedule": "constant", "ema": 0.0})


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


def test_the_unrolled_weights_are_those_of_gradient_descent():
    _, nets, batch = players()
    fake = nets.G(batch["z"]).detach()
    found = unroll(nets.D, batch["x"], fake, 3, 0.1)
    before = {name: w.clone() for name, w in nets.D.state_dict().items()}
    optimizer = torch.optim.SGD(nets.D.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        losses.non_saturating.critic(nets.D(batch["x"]), nets.D(fake)).mean().backward()
        optimizer.step()
    for name, w in nets.D.state_dict().items():
        torch.testing.assert_close(found[name], w)
        assert not torch.equal(before[name], w)


def test_the_gradient_passes_through_the_critics_learning():
    recipe, nets, batch = players(ahead=3, rate=0.5)
    weights = {name: w.clone() for name, w in nets.D.state_dict().items()}
    loss = lambda detach: generator_loss(nets, batch, detach)
    exact, cut = (torch.autograd.grad(loss(detach), list(nets.G.parameters())) for detach in (False, True))
    ours = recipe.stages[0].phases[1].loss(nets, batch, State())["generator"].mean()
    found = torch.autograd.grad(ours, list(nets.G.parameters()))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b)
    assert max(float((a - b).abs().max()) for a, b in zip(exact, cut, strict=True)) > 1e-4
    assert all(torch.equal(weights[name], w) for name, w in nets.D.state_dict().items())


def generator_loss(nets: Nets, batch: dict, detach: bool) -> torch.Tensor:
    fake = nets.G(batch["z"])
    ahead = unroll(nets.D, batch["x"], fake.detach() if detach else fake, 3, 0.5)
    return losses.non_saturating.generator(torch.func.functional_call(nets.D, dict(ahead), (fake,))).mean()
