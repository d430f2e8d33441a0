"""stacked-gan: on digits8 labels can be read from 90 % of the samples; without the entropy term a label's pixels vary 30 % less."""

import pytest
import torch

import gancore
from gancore import data
from gancore.core import DataSpec, Nets, State, UsageError
from gancore.nets.stack import levels
from gancore.recipes import get
from tests.accept import Clause, at_least, at_most, quiet, seeded

DIGITS = {"data": "digits8", "net": "toy", "steps": 2500, "batch_size": 128, "lr": 1e-3}


def accept(seed: int) -> list[Clause]:
    found, without = (figures(seed, entropy) for entropy in (10.0, 0.0))
    return [
        at_least("labels read back from samples", found[0], 0.9),
        at_most("pixel deviation within a label without entropy, of that with it", without[1] / found[1], 0.7),
    ]


def figures(seed: int, entropy: float) -> tuple[float, float]:
    """Share of samples whose label the judge of digits8 reads, and the mean deviation of a pixel within a label."""
    run = gancore.train("stacked-gan", seed=seed, entropy=entropy, **quiet(DIGITS))
    y = torch.arange(10).repeat_interleave(100)
    x = run.sample(1000, y=y)
    right = (data.oracle("digits8").predict(x) == y).float().mean().item()
    return right, torch.stack([x[y == k].std(0).mean() for k in range(10)]).mean().item()


def players(**parameters: int) -> Nets:
    with seeded(0):
        return Nets(get("stacked-gan").function(**parameters).nets(DataSpec((1, 8, 8), 10, width=8)))


def batch(nets: Nets) -> dict:
    with seeded(1):
        return {"x": torch.rand(6, 1, 8, 8), "y": torch.randint(10, (6,)), "z": torch.randn(6, nets.G.latent)}


def moved(nets: Nets, term: torch.Tensor) -> set[str]:
    nets.zero_grad()
    term.mean().backward(retain_graph=True)
    return {".".join(name.split(".")[:2]) for name, w in nets.named_parameters() if w.grad is not None and w.grad.any()}


def test_levels_learn_apart_first_and_together_then():
    nets, recipe = players(), get("stacked-gan").function()
    for stage, below in zip(recipe.stages[1:], (set(), {"G.upper"}), strict=True):
        terms = stage.phases[1].loss(nets, batch(nets), State())
        for name, term in terms.items():
            reached = moved(nets, term) & {"G.upper", "G.lower"}
            assert reached == ({"G.upper"} if name.startswith("upper") else {"G.lower"} | below), (stage.name, name)


def test_a_fake_is_held_to_what_it_was_made_for():
    nets = players()
    given = batch(nets)
    for joint in (False, True):
        upper, lower = levels(nets.E, nets.G, given, joint)
        h = nets.E.features(given["x"])
        asked = upper.fake if joint else h
        expected = (nets.E.features(nets.G.samples(lower.z, asked)) - asked).square().mean(1)
        torch.testing.assert_close(lower.distance, expected)
        chosen = nets.E.head(upper.fake).log_softmax(1)[torch.arange(6), given["y"]]
        torch.testing.assert_close(upper.distance, -chosen)
        assert torch.equal(upper.real, h)


def test_critics_learn_to_read_the_code_and_no_entropy_means_no_code():
    recipe = get("stacked-gan").function(entropy=3.0)
    for phase in (p for stage in recipe.stages[1:] for p in stage.phases):
        (route,) = phase.updates.values()
        assert {w for name, w in route.items() if name.endswith("code")} == {3.0}
    nets = players()
    given = batch(nets)
    for phase in recipe.stages[1].phases:
        code = phase.loss(nets, given, State())["upper code"]
        assert "D.upper" in moved(nets, code)
        upper, _ = levels(nets.E, nets.G, given, False)
        _, read = nets.D.upper(upper.fake)
        torch.testing.assert_close(code, (upper.z - read).square().mean(1))
    plain = get("stacked-gan").function(entropy=0.0)
    assert not any("code" in name for stage in plain.stages for p in stage.phases for route in p.updates.values() for name in route)


def test_samples_go_down_the_stack():
    nets = players(codes=3)
    given = batch(nets)
    upper, lower = given["z"][:, :3], given["z"][:, 3:]
    expected = nets.G.samples(lower, nets.G.features(upper, given["y"]))
    assert torch.equal(nets.G(given["z"], given["y"]), expected)


def test_the_classifier_is_trained_first_and_stays():
    run = gancore.train("stacked-gan", data="digits8", steps=10, batch_size=16, width=8, log_every=1)
    assert [r["stage"] for r in run.metrics] == ["classifier"] * 2 + ["independent"] * 4 + ["joint"] * 4
    assert [p.updates.keys() for p in run.recipe.stages[0].phases] == [{"E"}]
    assert all("E" not in p.updates for stage in run.recipe.stages[1:] for p in stage.phases)


def test_data_without_labels_are_refused():
    with pytest.raises(UsageError, match="labels"):
        get("stacked-gan").function().nets(DataSpec((2,)))
