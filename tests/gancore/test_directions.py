"""Which way the players of an adversarial recipe move: D parts data from fakes, G brings its fakes nearer by D's measure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancore import layers, losses, recipes
from gancore.core import Nets
from tests.gancore.test_recipes import home, start
from tests.gancore.toys import go

Gap = Callable[[Nets, Tensor, Tensor], Tensor]


def by_scores(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    return nets.D(real).mean() - nets.D(fake).mean()


def by_losses(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    return -by_scores(nets, real, fake)


def by_energy(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    return (nets.D(fake) - fake).square().mean() - (nets.D(real) - real).square().mean()


def by_outputs(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    """In deviations, so that clipping a critic's weights is no step backwards."""
    a, b = nets.D(real), nets.D(fake)
    return losses.mean_distance(a, b) / (a.var(0) + b.var(0)).mean().sqrt()


def by_distances(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    a, b = nets.D(real), nets.D(fake)
    return 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()


def by_class_of_data(nets: Nets, real: Tensor, fake: Tensor) -> Tensor:
    return nets.D(real).log_softmax(1)[:, -1].mean() - nets.D(fake).log_softmax(1)[:, -1].mean()


GAPS: dict[str, Gap] = {
    "began": by_energy, "ebgan": by_energy, "magan": by_energy, "ls-gan": by_losses, "ipm-fm": by_outputs,
    "mcgan": by_outputs, "mmd-gan": by_outputs, "mmd-gan-gp": by_outputs, "cramer-gan": by_distances,
    "mad-gan": by_class_of_data,
}  # fmt: skip
# Their critics take more or other than data and fakes, one phase moves both players, G has other ends, or clipping to 0.01 leaves
# no gap to speak of in a small network: their own tests hold the directions.
OTHERS = {
    "aae", "cgan", "feature-matching", "lapgan", "mad-gan-sim", "mrgan", "projection-gan", "rwgan", "stacked-gan", "vaegan",
    "veegan", "wgan",
}  # fmt: skip
NAMES = [name for name in recipes.names("recipe") if name not in OTHERS and {"G", "D"} <= set(start(name, home(name)).nets)]


@pytest.mark.parametrize("player", ["D", "G"])
@pytest.mark.parametrize("name", NAMES)
def test_the_gap_grows_by_d_and_shrinks_by_g(name: str, player: str) -> None:
    run = start(name, home(name), batch_size=64)
    stage = run.recipe.stages[-1]
    batch = run._draw(stage)
    gap = GAPS.get(name, by_scores)

    def measured() -> float:
        with torch.no_grad():
            return float(gap(run.nets, batch["x"], run.nets.G(batch["z"])))

    def train(mover: str, steps: int) -> tuple[float, float]:
        phases = [p for p in stage.phases if mover in p.updates]
        run.recipe = replace(run.recipe, stages=[replace(stage, phases=phases, share=1.0)])
        before = measured()
        go(run, steps)
        return before, measured()

    parted = train("D", 20)  # G has a way to go only where D has an opinion
    before, after = parted if player == "D" else train("G", 20)
    assert after > before if player == "D" else after < before


ASCENDED = {
    ("ipm-fm", "critic", "D"): {"distance"}, ("ipm-fm", "critic", "V"): {"distance"},
    ("mcgan", "critic", "D"): {"mean", "covariance"}, ("mcgan", "critic", "V"): {"mean"},
    ("mcgan", "critic", "C"): {"covariance"}, ("mmd-gan", "critic", "D"): {"distance", "order"},
    ("mmd-gan-gp", "critic", "D"): {"mmd2"}, ("vaegan", "joint", "G"): {"decoded", "drawn"},
}  # fmt: skip
ROUTES = {
    "mcgan": {
        "critic": {"D": {"mean": -1.0, "covariance": -1.0}, "V": {"mean": -1.0}, "C": {"covariance": -1.0}},
        "generator": {"G": {"mean": 1.0, "covariance": 1.0}},
    },
    "fisher-gan": {"critic": {"D": {"critic": 1.0, "constraint": 1.0}}, "generator": {"G": {"generator": 1.0}}},
}


@pytest.mark.parametrize("name", ROUTES)
def test_terms_that_one_gap_does_not_tell_apart_have_their_signs(name: str) -> None:
    assert {phase.name: phase.updates for phase in recipes.get(name).function().stages[0].phases} == ROUTES[name]


def test_what_a_player_ascends_is_known() -> None:
    """A weight is positive, so that its term is descended, but for these."""
    found = {
        (name, phase.name, player, term)
        for name in recipes.names("recipe")
        for stage in start(name, home(name)).recipe.stages
        for phase in stage.phases
        for player, route in phase.updates.items()
        for term, weight in route.items()
        if not callable(weight) and weight <= 0
    }
    assert found == {(*place, term) for place, terms in ASCENDED.items() for term in terms}


@pytest.mark.parametrize("name", recipes.names("recipe"))
def test_a_term_of_the_whole_batch_is_declared(name: str) -> None:
    """A loss that is no mean over its samples must say so, or accumulation over micro-batches changes it silently."""
    run = start(name, home(name), batch_size=16)
    stage = run.recipe.stages[-1]
    batch = run._draw(stage)
    tied = any(isinstance(m, nn.modules.batchnorm._BatchNorm | layers.MinibatchDiscrimination) for m in run.nets.modules())
    for phase in stage.phases:
        if phase.loss is None or phase.whole_batch or tied:
            continue

        def found(*parts: slice, loss: Any = phase.loss) -> dict[str, Tensor]:
            with torch.random.fork_rng([]):
                torch.manual_seed(0)
                all_terms = [loss(run.nets, {k: v[part] for k, v in batch.items()}, run.state) for part in parts]
            return {k: torch.stack([terms[k].float().mean() for terms in all_terms]).mean().detach() for k in all_terms[0]}

        first, half = found(slice(0, 8), slice(0, 8)), found(slice(0, 8))
        if any(not torch.equal(first[k], half[k]) for k in half):
            continue  # it draws random numbers, which the halves would not share
        whole, halves = found(slice(0, 16)), found(slice(0, 8), slice(8, 16))
        for k in whole:
            torch.testing.assert_close(halves[k], whole[k], rtol=1e-4, atol=1e-5, msg=f"{name}, phase {phase.name}, term {k}")
