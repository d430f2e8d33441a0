"""The loop's options: accumulation, clipping, averages, schedules, layouts, precision, compilation; and what it must never do."""

import copy
import math
from collections.abc import Callable
from typing import Any

import nvtx
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gancore import recipes
from gancore.core import Diverged, Field, Options, Phase, Recipe, State, UsageError, adam, rmsprop, sgd
from gancore.core.average import Average
from gancore.trainer import Trainer
from tests.gancore.toys import Scalar, differing, go, images, plain, trainer, vectors, weights


def critic() -> dict[str, nn.Module]:
    return {"D": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))}


def squares(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
    return {"t": (nets["D"](batch["x"])[:, 0] - batch["x"].sum(1)) ** 2}


def regression(**settings: Any) -> Recipe:
    return plain(critic, Phase("p", {"D": {"t": 1.0}}, squares, **settings))


# -- accumulation and clipping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [1, 4, 5, 7, 8, 30])
def test_accumulation_equals_one_big_batch(micro: int) -> None:
    big, small = go(trainer(regression()), 3), go(trainer(regression(), micro_batch=micro), 3)
    for a, b in zip(big.nets.parameters(), small.nets.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert big.tick()["p/t"] == pytest.approx(small.tick()["p/t"], rel=1e-5)


def test_accumulation_adds_up_several_routes() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        both = nets["A"].value * nets["B"].value * batch["x"][:, 0]
        return {"a": both, "b": both**2}

    recipe = plain(lambda: {"A": Scalar(1.0), "B": Scalar(1.0)}, Phase("p", {"A": {"a": 1.0}, "B": {"b": -1.0}}, loss))
    big, small = weights(go(trainer(recipe), 2)), weights(go(trainer(recipe, micro_batch=3), 2))
    for name in big:
        torch.testing.assert_close(big[name], small[name])


def test_all_of_a_longer_prepared_batch_is_used() -> None:
    def prepare(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"x": torch.cat([batch["x"], 3 * batch["x"]])}

    big, small = (weights(go(trainer(regression(prepare=prepare), micro_batch=m), 2)) for m in (0, 4))
    for name in big:
        torch.testing.assert_close(big[name], small[name])


def test_batch_statistics_refuse_accumulation() -> None:
    with pytest.raises(UsageError, match="micro_batch must be 0, got 4"):
        trainer(regression(whole_batch=True), micro_batch=4)
    go(trainer(regression(whole_batch=True), micro_batch=8), 1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clip_bounds_the_norm_of_each_player(precision: str) -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": 30 * nets["A"].a + 40 * nets["A"].b + 0.5 * nets["B"].value}

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    recipe = plain(lambda: {"A": Two(), "B": Scalar()}, Phase("p", {"A": {"t": 1.0}, "B": {"t": 1.0}}, loss))
    run = go(trainer(recipe, clip=1.0, precision=precision), 1)
    assert [p.item() for p in run.nets.parameters()] == pytest.approx([-0.06, -0.08, -0.05], rel=1e-4)


# -- moving averages --------------------------------------------------------------------------------------------------------


def test_average_of_weights_and_buffers_equals_a_loop_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = Average(nn.ModuleDict({"G": net, "D": nn.Linear(1, 1)}), ["G"], 0.6)
    mean = {name: t.clone() for name, t in net.state_dict().items()}
    for step in range(8):
        net(torch.randn(5, 2))
        for p in net.parameters():
            p.data.add_(torch.randn_like(p))
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))  # 1/10, 2/11 ... up to 0.6
        for name, now in net.state_dict().items():
            mean[name] = decay * mean[name] + (1 - decay) * now if now.is_floating_point() else now.clone()
    for name, value in average.copies["G"].state_dict().items():
        torch.testing.assert_close(value, mean[name])
    assert int(average.copies["G"][1].num_batches_tracked) == 8
    assert average.nets["G"] is average.copies["G"]
    assert not any(p.requires_grad for p in average.copies.parameters())


def test_average_follows_a_parameter_whose_storage_was_replaced() -> None:
    net = nn.Linear(1, 1)
    average = Average(nn.ModuleDict({"G": net}), ["G"], 0.5)
    net.weight.data = torch.full((1, 1), 7.0)
    for step in range(200):
        average.update(step)
    assert average.copies["G"].weight.item() == pytest.approx(7)


def test_no_average_means_the_trained_weights() -> None:
    run = go(trainer(recipes.get("gan-ns").function(), ema=0.0), 1)
    assert run.average.nets["G"] is run.nets["G"]


# -- schedules and optimisers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [("constant", lambda t: 1.0), ("linear", lambda t: 1 - 0.95 * t), ("cosine", lambda t: 0.5 + 0.5 * math.cos(math.pi * t))],
)
def test_schedules(schedule: str, rate: Callable[[float], float]) -> None:
    rates = []
    recipe = regression(after=lambda nets, state, terms: rates.append(run.optims["D"].param_groups[0]["lr"]))
    run = trainer(recipe, schedule=schedule, steps=5)
    go(run, 5)
    assert rates == pytest.approx([0.1 * rate(i / 5) for i in range(5)])


def test_optimisers_are_those_of_torch() -> None:
    values = [
        (adam(0.1, (0.3, 0.7), 1e-3), lambda p: torch.optim.Adam(p, 0.1, (0.3, 0.7), 1e-3)),
        (adam(0.1, weight_decay=0.1), lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.999), weight_decay=0.1)),
        (rmsprop(0.1, 0.8), lambda p: torch.optim.RMSprop(p, 0.1, 0.8)),
        (sgd(0.1, 0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
    ]
    for value, plain_one in values:
        a = nn.Linear(3, 3)
        b = copy.deepcopy(a)
        for net, optim in ((a, value.build(a.parameters())), (b, plain_one(b.parameters()))):
            for step in range(4):
                optim.zero_grad()
                ((net(torch.ones(1, 3)) - step) ** 2).sum().backward()
                optim.step()
        torch.testing.assert_close(a.weight, b.weight)


# -- layout -----------------------------------------------------------------------------------------------------------------


def test_convolutions_are_channels_last_and_stay_so() -> None:
    run = trainer(recipes.get("dcgan").function(), images(16), width=4)
    resumed = trainer(recipes.get("dcgan").function(), images(16), width=4)
    resumed.load_state_dict(go(run, 1).state_dict())
    for net in (run.nets, run.average.nets, resumed.nets):
        kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert len(kernels) == 6
        assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)


def test_volumes_and_images_may_train_together() -> None:
    players = lambda: {"V": nn.Conv3d(1, 1, 3), "I": nn.Conv2d(1, 2, 3)}
    phase = Phase("p", {"V": {"t": 1.0}}, lambda nets, batch, state: {"t": nets["V"](torch.ones(1, 1, 3, 3, 3)).sum()})
    go(trainer(plain(players, phase)), 1)


# -- precision --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_low_precision_trains_close_to_single(precision: str, dtype: torch.dtype) -> None:
    seen = []

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        y = nets["D"](batch["x"])
        seen.append(y.dtype)
        return {"t": (y[:, 0] - batch["x"].sum(1)) ** 2}

    recipe = plain(critic, Phase("p", {"D": {"t": 1.0}}, loss))
    run, single = go(trainer(recipe, precision=precision, steps=20), 20), go(trainer(recipe, steps=20), 20)
    assert seen[:20] == [dtype] * 20
    for a, b in zip(run.nets.parameters(), single.nets.parameters(), strict=True):
        assert a.dtype == torch.float32
        if precision == "bf16":  # fp16 finds its scale first, and skips those steps
            torch.testing.assert_close(a, b, atol=0.03, rtol=0.05)
    start, error, exact = (mean_error(r) for r in (trainer(recipe), run, single))
    assert error < 0.5 * start
    assert error == pytest.approx(exact, rel=0.05 if precision == "bf16" else 0.6)


def mean_error(run: Trainer) -> float:
    return squares(run.nets, vectors().fields, run.state)["t"].mean().item()


def test_fp16_scales_each_optimiser_and_skips_overflow() -> None:
    factor = [1.0, 1e38, 1.0]

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"a": factor[int(state.step)] * nets["A"].value, "b": nets["B"].value}

    recipe = plain(lambda: {"A": Scalar(), "B": Scalar()}, Phase("p", {"A": {"a": 1.0}, "B": {"b": 1.0}}, loss))
    run = go(trainer(recipe, precision="fp16"), 3)
    # A's second gradient, 1e38 times a scale of 65536, is infinite: that step is skipped and A's scale alone is halved.
    assert run.nets["A"].value.item() == pytest.approx(-0.2)
    assert run.nets["B"].value.item() == pytest.approx(-0.3)
    saved = run.state_dict()["scalers"]
    assert (saved["A"]["scale"], saved["B"]["scale"]) == (32768, 65536)
    resumed = trainer(recipe, precision="fp16")
    resumed.load_state_dict(run.state_dict())
    assert resumed.scalers["A"].get_scale() == 32768


# -- what it must never do --------------------------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts what reads a value back from the device."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.is_nonzero):
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"clip": 1.0, "schedule": "cosine", "micro_batch": 4}, {"precision": "bf16"}])
@pytest.mark.parametrize("recipe", ["gan-ns", "wgan", "wgan-gp", "vaegan", "began", "projection-gan"])
def test_nothing_waits_for_the_device_between_ticks(recipe: str, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a CPU, and only there, one_hot reads the range of its labels.
    monkeypatch.setattr(nn.functional, "one_hot", lambda y, count: torch.eye(count, dtype=torch.int64)[y])
    run = trainer(recipes.get(recipe).function(), images(16), width=4, **options)
    with run.random():
        run.step()
        with Waits() as waits:
            run.step()
        assert waits.count == 0
        with Waits() as waits:
            run.tick()
        assert waits.count > 0


def test_every_phase_has_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], nvtx.annotate

    def annotate(message: str, domain: str) -> object:
        seen.append((message, domain))
        return real(message, domain=domain)

    monkeypatch.setattr(nvtx, "annotate", annotate)
    go(trainer(recipes.get("wgan").function()), 2)
    assert seen == [("critic", "gancore"), ("generator", "gancore")] * 2


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run = go(trainer(recipes.get("gan-ns").function()), 2)
    run.load_state_dict(run.state_dict())
    run.tick()
    assert torch.equal(before, torch.get_rng_state())


def test_the_callers_random_state_changes_nothing() -> None:
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(go(trainer(recipes.get("aae").function(posterior="gaussian")), 2).state_dict())
    assert not differing(*runs)


def test_a_state_taken_between_steps_is_that_of_the_run() -> None:
    run = trainer(recipes.get("gan-ns").function())
    with run.random():
        run.step()
        inside = run.state_dict()
    torch.manual_seed(123)
    assert not differing(inside, run.state_dict())


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": nets["G"].value * torch.where(state.step > 1, float("nan"), 1.0)}

    run = trainer(plain(lambda: {"G": Scalar()}, Phase("p", {"G": {"t": 1.0}}, loss)))
    go(run, 2).tick()
    with pytest.raises(Diverged, match=r"p/t is nan at step 4"):
        go(run, 2).tick()


def test_weights_that_are_not_finite_end_the_run_though_every_loss_was() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        return {"t": nets["G"].value.clamp(-1, 1).abs().sqrt()}  # its slope at 0 is infinite times zero

    run = go(trainer(plain(lambda: {"G": Scalar(0.0)}, Phase("p", {"G": {"t": 1.0}}, loss))), 1)
    assert not run.nets["G"].value.isfinite()
    with pytest.raises(Diverged, match="a weight of G is not finite at step 1"):
        run.tick()


def test_means_of_a_tick_are_those_since_the_last() -> None:
    phase = Phase("p", {"G": {"t": 1.0}}, lambda nets, batch, state: {"t": 0 * nets["G"].value + state.step}, repeats=2)
    run = trainer(plain(lambda: {"G": Scalar()}, phase))
    assert go(run, 3).tick()["p/t"] == 1  # steps 0, 1, 2, each twice
    assert go(run, 2).tick()["p/t"] == 3.5


def test_what_is_logged_is_in_the_record_and_in_checkpoints() -> None:
    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        if int(state.step) == 0:
            state.log["seen"] = (nets["G"].value * 3 + 1).detach()
        return {"t": nets["G"].value}

    recipe = plain(lambda: {"G": Scalar()}, Phase("p", {"G": {"t": 1.0}}, loss), state=lambda: State(k=0.25))
    first = go(trainer(recipe), 1)
    resumed = trainer(recipe)
    resumed.load_state_dict(first.state_dict())
    for run in (first, resumed):
        record = go(run, 1).tick()
        assert record["state/seen"] == 1
        assert record["state/k"] == 0.25


def test_a_draw_may_bring_columns_that_are_cut_together() -> None:
    seen = []

    def loss(nets: nn.ModuleDict, batch: dict, state: State) -> dict:
        seen.append({k: len(v) for k, v in batch.items()})
        return {"t": nets["G"].value}

    streams = {"x": Field("x"), "noise": lambda nets, n: torch.randn(n, 3)}
    go(trainer(plain(lambda: {"G": Scalar()}, Phase("p", {"G": {"t": 1.0}}, loss), data=streams), micro_batch=5), 1)
    assert seen == [{"x": 5, "noise": 5}, {"x": 3, "noise": 3}]


def test_options_that_cannot_be() -> None:
    wrong = {"steps": 0, "batch_size": 0, "net": "vgg", "precision": "fp8", "ema": 1.0, "clip": -1.0, "micro_batch": -1}
    for name, value in wrong.items():
        with pytest.raises(UsageError, match=f"{name} must"):
            Options(**{name: value})
