"""The contract that every recipe keeps, whatever it is: frozen players, routes that arrive, repeatable and resumable runs."""

import io
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from gancore import data, recipes
from gancore.core import DataError, Phase, Stage, UsageError
from gancore.data import Dataset
from gancore.trainer import Trainer
from tests.gancore.toys import differing, flat, go, trainer, weights

NAMES = recipes.names("recipe")
SETS = {"ring8": {}, "digits8": {}, "digits": {"size": 16}}  # vectors, images for the MLP, images for the convolutions


@cache
def dataset(name: str) -> Dataset:
    return data.load(name, **SETS[name])


def start(recipe: str, on: str, **options: Any) -> Trainer:
    settings = {"width": 4 if on == "digits" else 8, "batch_size": 8, **options}
    return trainer(recipes.get(recipe).function(), dataset(on), **settings)


@cache
def fits(recipe: str) -> tuple[str, ...]:
    """The sets that the recipe's networks can be built for."""
    found = []
    for name in SETS:
        try:
            start(recipe, name)
        except (UsageError, DataError):
            continue
        found.append(name)
    return tuple(found)


def home(recipe: str) -> str:
    return fits(recipe)[0]


def visits(run: Trainer) -> Iterator[tuple[Stage, Phase]]:
    for stage in run.recipe.stages:
        for phase in stage.phases:
            yield stage, phase


def round_trip(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("recipe", NAMES)
def test_it_trains_on_vectors_or_images(recipe: str) -> None:
    assert fits(recipe), "its networks fit none of the sets"
    for name in fits(recipe):
        record = go(start(recipe, name), 2).tick()
        assert all(math.isfinite(v) for v in record.values() if isinstance(v, float))
        assert any("/" in key for key in record)


@pytest.mark.parametrize("recipe", NAMES)
def test_only_the_players_of_a_phase_move(recipe: str) -> None:
    stages = recipes.get(recipe).function().stages
    run = start(recipe, home(recipe), steps=math.ceil(2 * sum(s.share for s in stages) / min(s.share for s in stages)))
    visit, moved = run._visit, set()

    def watched(phase: Phase, stage: Stage) -> None:
        before = weights(run)
        visit(phase, stage)
        for name, value in weights(run).items():
            player = name.split(".")[0]
            same = torch.equal(before[name], value)
            assert same or player in phase.updates, f"{name} moved in phase {phase.name}"
            if not same:
                moved.add((phase.name, player))

    run._visit = watched
    go(run, run.options.steps)
    expected = {(p.name, player) for _, p in visits(run) if p.when is None and p.every == 1 for player in p.updates}
    assert expected <= moved


@pytest.mark.parametrize("recipe", NAMES)
def test_every_term_of_a_route_reaches_its_players(recipe: str) -> None:
    run = start(recipe, home(recipe))
    with run.random():
        for stage, phase in visits(run):
            if phase.loss is None:
                continue
            run._enter(stage)
            missing = {(player, term) for player, route in phase.updates.items() for term in route}
            for attempt in range(10):
                if attempt == 5:  # a one-sided penalty costs only beyond a slope that fresh networks do not have
                    enlarge(run.nets)
                batch = run._draw(stage)
                run._unfreeze(phase.updates)
                if phase.prepare is not None:
                    with torch.no_grad():
                        batch = phase.prepare(run.nets, batch, run.state)
                terms = phase.loss(run.nets, batch, run.state)
                missing -= {(p, t) for p, t in missing if arrives(terms[t], run.nets[p])}
                if not missing:
                    break
            assert not missing, f"phase {phase.name}: no gradient for {sorted(missing)}"


@torch.no_grad()
def enlarge(nets: nn.Module) -> None:
    for w in nets.parameters():
        w.mul_(4)


def arrives(term: torch.Tensor, player: nn.Module) -> bool:
    weights = [w for w in player.parameters() if w.requires_grad]
    if not term.requires_grad:
        return False
    found = torch.autograd.grad(term.mean(), weights, retain_graph=True, allow_unused=True)
    return any(g is not None and bool((g != 0).any()) for g in found)


@pytest.mark.parametrize("recipe", NAMES)
def test_same_seed_same_run(recipe: str) -> None:
    a, b, c = (go(start(recipe, home(recipe), seed=seed), 3).state_dict() for seed in (0, 0, 1))
    assert not differing(a, b)
    assert differing(a["nets"], c["nets"])


@pytest.mark.parametrize("recipe", NAMES)
def test_three_steps_and_three_resumed_are_six(recipe: str) -> None:
    whole = go(start(recipe, home(recipe)), 6)
    first = round_trip(go(start(recipe, home(recipe)), 3).state_dict())
    torch.manual_seed(99)
    second = start(recipe, home(recipe))
    second.load_state_dict(first)
    resumed = go(second, 3).state_dict()
    assert not differing(whole.state_dict(), resumed)
    records = [{k: v for k, v in run.tick().items() if k != "speed"} for run in (whole, second)]
    assert records[0] == records[1]
    assert any(isinstance(leaf, torch.Tensor) and leaf.numel() > 1 for leaf in flat(resumed["optims"]).values())


@pytest.mark.parametrize("recipe", NAMES)
def test_samples_have_the_shape_range_and_labels_of_the_data(recipe: str) -> None:
    for name in fits(recipe):
        run = go(start(recipe, name), 1)
        if run.recipe.sample is None:
            return
        source, seen = dataset(name), []
        generator = run.average.nets["G"] if "G" in run.average.nets else nn.Identity()
        hook = generator.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given))
        count = 2 * (source.classes or 4)
        with torch.no_grad():
            made = run.recipe.sample(run.average.nets, count, run.state)
        hook.remove()
        made = made if isinstance(made, torch.Tensor) else made["x"]
        assert made.shape == (count, *source.shape)
        assert made.isfinite().all()
        assert made.dtype == torch.float32
        if source.is_image:
            assert made.abs().max() <= 1
        if getattr(generator, "classes", 0):
            labels = seen[0][1]
            assert torch.bincount(labels, minlength=source.classes).tolist() == [2] * source.classes


@pytest.mark.parametrize("recipe", NAMES)
def test_one_step_in_bfloat16_is_finite(recipe: str) -> None:
    for name in fits(recipe):
        run = go(start(recipe, name, precision="bf16"), 1)
        run.tick()  # raises Diverged
        assert {p.dtype for p in run.nets.parameters()} == {torch.float32}


@pytest.mark.parametrize("recipe", NAMES)
def test_players_have_distinct_weights_that_all_train(recipe: str) -> None:
    """Nothing is built that no phase updates, and frozen players say so by requires_grad."""
    run = start(recipe, home(recipe))
    updated = {player for _, phase in visits(run) for player in phase.updates}
    idle = set(run.nets) - updated
    assert not [p for p in idle if any(w.requires_grad for w in run.nets[p].parameters())], idle
