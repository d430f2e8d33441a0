"""accelerate: the same numbers from the same modules, nothing fused that somebody else may look at, and a report of why."""

import copy
import io
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

import gancore
from gancore import nets, penalties
from gancore.acceleration import Report, running
from gancore.core import DataSpec
from gancore.layers import units


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """Gradients that vanish, as a bias's before a norm, compare in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of units of every run that an operator has computed."""
    counted: list[int] = []
    plain = units.fused
    monkeypatch.setattr(units, "fused", lambda x, parts: counted.append(len(parts)) or plain(x, parts))
    return counted


def dcgan(width: int = 4, levels: int = 4) -> nn.Sequential:
    """The generator of countless scripts."""
    sizes = [16, *(width * 2**i for i in reversed(range(levels)))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2 if i else 1, 1 if i else 0, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


def tower(width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)),
        *(nn.Conv2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(width, 1, 4, 4), nn.Flatten()),
    )


def codes(n: int = 4) -> Tensor:
    return torch.randn(n, 16, 1, 1)


def agree(model: nn.Module, x: Tensor, plain: nn.Module) -> None:
    """Values, gradients and buffers of both after a call of each."""
    results = []
    for net in (model, plain):
        z = x.clone().requires_grad_()
        y = net(z)
        results.append((y, *torch.autograd.grad(y.square().sum(), [z, *(p for p in net.parameters() if p.requires_grad)])))
    torch.testing.assert_close(*results)
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


# -- drop-in ----------------------------------------------------------------------------------------------------------------


def train(generator: nn.Module, critic: nn.Module, steps: int) -> list[float]:
    torch.manual_seed(1)
    optims = [torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999)) for net in (generator, critic)]
    losses = []
    for _ in range(steps):
        real, z = torch.randn(8, 3, 64, 64).tanh(), codes(8)
        for player in (1, 0):
            optims[player].zero_grad()
            fake = generator(z) if player == 0 else generator(z).detach()
            value = F.softplus(-critic(fake)).mean() if player == 0 else F.softplus(critic(fake) - critic(real)).mean()
            value.backward()
            optims[player].step()
            losses.append(value.item())
    return losses


def test_fifty_steps_of_training_are_the_same(calls):
    torch.set_default_dtype(torch.float32)
    plain, critic = dcgan(), tower()
    fast, fast_critic = gancore.accelerate(copy.deepcopy(plain)), gancore.accelerate(copy.deepcopy(critic))
    wanted = train(plain, critic, 50)
    assert not calls
    assert train(fast, fast_critic, 50) == pytest.approx(wanted, rel=1e-3)
    assert calls.count(5) == 100  # the whole generator, twice a step
    assert wanted[-1] != pytest.approx(wanted[1], rel=0.02)  # they went somewhere
    fresh = dcgan()
    fresh.load_state_dict(fast.state_dict())
    z = codes()
    torch.testing.assert_close(fresh.eval()(z), fast.eval()(z), rtol=1e-4, atol=1e-5)
    fast.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fast.eval()(z), plain.eval()(z), rtol=1e-4, atol=1e-5)


def test_modules_stay_where_they_are():
    model = dcgan()
    modules, keys, weights = list(model.modules()), list(model.state_dict()), list(model.parameters())
    assert gancore.accelerate(model) is model
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert list(model.state_dict()) == keys
    assert isinstance(model[0], nn.ConvTranspose2d)
    assert model.float()(codes().float()).dtype == torch.float32


def test_restore(calls):
    model = spectral_norm(dcgan()[3])
    model = nn.Sequential(model, nn.ReLU(), *dcgan()[6:])
    before = [(type(m), sorted(vars(m))) for m in model.modules()]
    gancore.accelerate(model)
    gancore.accelerate(model)  # once is enough
    assert len(model._forward_hooks) == 1
    gancore.restore(model)
    assert [(type(m), sorted(vars(m))) for m in model.modules()] == before
    assert not any(isinstance(m, running.Member) for m in model.modules())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    model(torch.randn(2, 32, 2, 2))
    assert not calls


def test_a_model_is_wanted():
    with pytest.raises(TypeError, match="model got str"):
        gancore.accelerate("generator")


def test_analysis_leaves_no_trace():
    model = nn.Sequential(Noise(), dcgan())
    model[1][1].eval()
    had = [(m.training, sorted(vars(m))) for m in model.modules()]
    state, modes = torch.get_rng_state(), (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
    counted = model[0].count.clone()
    gancore.accelerate(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
    assert torch.equal(model[0].count, counted)
    gancore.restore(model)
    assert [(m.training, sorted(vars(m))) for m in model.modules()] == had


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.first = nn.Conv2d(16, 16, 1)

    def forward(self, z: Tensor) -> Tensor:
        self.count.add_(1)
        return self.first(z) + torch.randn(1)


# -- what is fused ----------------------------------------------------------------------------------------------------------


def run_of(model: nn.Module) -> list[tuple[tuple[str, ...], str]]:
    return [(row.places, row.operator) for row in gancore.accelerate(model).acceleration_report.fused]


def test_the_report():
    report: Report = gancore.accelerate(nn.Sequential(dcgan(levels=1), tower())).acceleration_report
    assert str(report) == "\n".join(
        (
            "0.0 + 0.1 + 0.2 + 0.3 + 0.4: conv_transpose_chain of 2",
            "1.0 + 1.1: conv2d_bias_act",
            "1.2: unchanged (in training a batch norm needs the statistics of the convolution's whole output first)",
            "1.5: unchanged (Flatten follows)",
        )
    )
    assert len(report.fused) == len(report.unchanged) == 2
    assert str(gancore.accelerate(nn.Sequential(nn.Linear(2, 2))).acceleration_report) == "no convolutions"


class Block(nn.Module):
    """Attributes, an optional argument, a norm's place held by an Identity."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.act, self.up = nn.ELU(), nn.ConvTranspose2d(4, 4, 4, 2, 1)
        self.norm = norm or nn.BatchNorm2d(4)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        x = self.act(self.norm(self.up(x)))
        return x if skip is None else x + skip


def test_blocks_become_one_chain_and_run_alone_as_units(calls):
    model, x = nn.Sequential(Block(), nn.Sequential(Block(nn.Identity()), Block())), torch.randn(2, 4, 3, 3)
    plain = copy.deepcopy(model)
    (row,) = gancore.accelerate(model).acceleration_report.rows
    assert row.operator == "conv_transpose_chain of 3"
    agree(model, x, plain)
    assert calls == [3]
    for part, same in ((model[1], plain[1]), (model[0], plain[0])):
        agree(part, x, same)
    assert calls == [3, 2, 1]
    agree(model[0].up, x, plain[0].up)
    assert calls == [3, 2, 1]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus()])
def test_activations_and_dimensions(dims, act, calls):
    up, norm, down = (getattr(nn, f"{name}{dims}d") for name in ("ConvTranspose", "BatchNorm", "Conv"))
    x = torch.randn(2, 2, *[4] * dims)
    pairs = [nn.Sequential(down(2, 3, 3, 1, "same", dilation=2), act)]
    if not isinstance(act, nn.Softplus):
        pairs += [nn.Sequential(up(2, 4, 3, 2, 1, 1, groups=2), norm(4), act), nn.Sequential(up(2, 3, 3), act)]
    for plain in pairs:
        agree(gancore.accelerate(copy.deepcopy(plain)), x, plain)
    assert calls == [1] * len(pairs)


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"track_running_stats": False}, {"affine": False}, {"eps": 0.1, "momentum": 0.5}]
)
def test_norms_keep_their_statistics(options, calls):
    plain = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3, **options), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2))
    model = gancore.accelerate(copy.deepcopy(plain))
    for mode in (True, True, False):
        agree(model.train(mode), torch.randn(4, 2, 3, 3), plain.train(mode))
    for net in (model, plain):
        net.train()[1].eval()  # a norm that is frozen by itself
    agree(model, torch.randn(4, 2, 3, 3), plain)
    for net in (model, plain):
        net.train()[1].track_running_stats = False
    agree(model, torch.randn(4, 2, 3, 3), plain)
    assert calls == [2] * 5


def test_synchronised_norms_give_their_group(monkeypatch):
    norm = nn.SyncBatchNorm(3, process_group="group")
    assert units.statistics(norm)["process_group"] is None
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: {"group": 2}[group])
    assert units.statistics(norm)["process_group"] == "group"
    assert units.statistics(norm.eval())["process_group"] is None
    assert units.statistics(nn.BatchNorm2d(3))["process_group"] is None
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 1)
    assert units.statistics(norm.train())["process_group"] is None
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), norm, nn.ReLU())
    assert run_of(model) == [(("0", "1", "2"), "conv_transpose2d_bn_act")]


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = dcgan(levels=2)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z if z.sum() > 0 else -z)


def test_a_sequential_in_a_forward_that_cannot_be_traced(calls):
    plain = DataDependent()
    model = gancore.accelerate(copy.deepcopy(plain))
    agree(model, codes(), plain)
    assert calls == [3]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.last = nn.ConvTranspose2d(4, 4, 2), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(F.relu(self.norm(self.up(x)))))


def test_activations_that_are_functions_stay(calls):
    plain, x = Functional(), torch.randn(2, 4, 3, 3)
    model = gancore.accelerate(copy.deepcopy(plain))
    assert str(model.acceleration_report) == (
        "up + norm: conv_transpose2d_bn_act (no activation: relu takes its result, which is no module)\n"
        "last: unchanged (tanh takes its result, which is no module)"
    )
    agree(model, x, plain)
    assert calls == [1]


# -- what is left alone -----------------------------------------------------------------------------------------------------


class Up(nn.Module):
    """One transposed convolution and an activation, called in a way that subclasses choose."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.act = nn.ConvTranspose2d(4, 4, 2), nn.ReLU()


class TwoUsers(Up):
    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        return self.act(h) + h


class Twice(Up):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.up(self.act(self.up(x))))


class Sized(Up):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.up(x, output_size=(4, 4)))


class Frozen(Up):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.up(x)
        return self.act(x)


class Wide(Up):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            x = self.up(x)
        return self.act(x)


class Narrow(Up):
    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        with torch.autocast("cpu"):
            return self.act(x)


class Keeps(Up):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.up(x)
        return self.act(self.kept)


class Collects(Up):
    def __init__(self) -> None:
        super().__init__()
        self.features: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.features.append(self.up(x))
        return self.act(self.features[-1])


class Modal(Up):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.up(x)) if self.training else self.up(x)


class Asked(Up):
    def forward(self, x: Tensor, features: bool = False) -> Tensor:
        x = self.up(x)
        return x if features else self.act(x)


class Recomputed(Up):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda h: self.act(self.up(h)), x, use_reentrant=False)


class Own(nn.ConvTranspose2d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * super().forward(x)


def up(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(4, 4, 2), *layers)


def with_hook(place: int, kind: str) -> nn.Module:
    model = up(nn.ReLU())
    getattr(model[place], kind)(lambda *a: None)
    return model


def patched(model: nn.Sequential, place: str) -> nn.Module:
    module = model.get_submodule(place)
    module.forward = partial(module.forward)
    return model


UNSAFE: list[tuple[Callable[[], nn.Module], str]] = [
    (TwoUsers, "2 others take its result"),
    (Twice, "called more than once"),
    (Sized, "called with more than its input"),
    (Frozen, "another grad mode or autocast"),
    (Wide, "another grad mode or autocast"),
    (Narrow, "another grad mode or autocast"),
    (Keeps, "keeps values on a module: kept"),
    (Collects, "keeps values on a module: list"),
    (Modal, "in another mode"),
    (Asked, "cannot be traced"),
    (Recomputed, "recomputes parts in the backward pass"),
    (lambda: nn.Sequential(Own(4, 4, 2), nn.ReLU()), "Own has a forward of its own"),
    (lambda: patched(up(nn.ReLU()), ""), "it was replaced on this one module"),
    (lambda: patched(up(nn.ReLU()), "0"), "has a forward of its own"),
    (lambda: patched(up(nn.ReLU()), "1"), "has a forward of its own"),
    (lambda: up(nn.ELU(0.5)), r"ELU\(alpha=0.5\) has options"),
    (lambda: up(nn.Softplus()), "softplus does not follow"),
    (lambda: up(nn.GELU()), "GELU follows"),
    (lambda: up(nn.Dropout(0.0), nn.ReLU()), "Dropout follows"),
    (lambda: up(), "it is the last"),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Softplus(beta=2)), "has options"),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()), "mode 'reflect'"),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 2, padding="same"), nn.ReLU()), "padding 'same'"),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), "in training a batch norm needs"),
    *((lambda kind=kind: with_hook(0, kind), "it has") for kind in (
        "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook", "register_full_backward_pre_hook",
        "_register_state_dict_hook", "register_state_dict_pre_hook", "register_load_state_dict_pre_hook",
        "register_load_state_dict_post_hook",
    )),
    (lambda: with_hook(1, "register_forward_hook"), "1: it has forward hooks"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize(("build", "reason"), UNSAFE)
def test_what_is_not_safe_is_left(build, reason, calls):
    plain, x = build(), torch.randn(2, 4, 3, 3)
    model = gancore.accelerate(copy.deepcopy(plain))
    (row,) = model.acceleration_report.rows
    assert not row.operator
    assert re.search(reason, row.reason), row.reason
    for mode in (True, False):
        y, wanted = model.train(mode)(x), plain.train(mode)(x)
        torch.testing.assert_close(y, wanted)
        assert y.requires_grad == wanted.requires_grad
    assert not calls


def test_modules_in_several_places_are_left(calls):
    shared = nn.ConvTranspose2d(4, 4, 2)
    model = nn.ModuleDict({"a": nn.Sequential(shared, nn.ReLU()), "b": nn.Sequential(shared, nn.Tanh())})
    (row,) = gancore.accelerate(model).acceleration_report.rows
    assert "several places" in row.reason
    twice = nn.Sequential(up(nn.ReLU()), nn.Identity())
    twice.append(twice[0])
    (row,) = gancore.accelerate(twice).acceleration_report.rows
    assert "several places" in row.reason
    twice(torch.randn(1, 4, 2, 2))
    assert not calls


class Again(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = up(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


def test_blocks_that_are_called_twice_are_left(calls):
    plain = Again()
    model = gancore.accelerate(copy.deepcopy(plain))
    assert "called more than once" in model.acceleration_report.rows[0].reason
    agree(model, torch.randn(2, 4, 3, 3), plain)
    assert not calls


def test_modules_on_other_devices_are_left():
    (row,) = gancore.accelerate(up(nn.BatchNorm2d(4, device="meta"), nn.ReLU())).acceleration_report.rows
    assert row.reason == "1: it lies on meta, the convolution on cpu"
    two = nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, device="meta"), nn.ReLU())
    assert [places for places, _ in run_of(two)] == [("0", "1"), ("2", "3")]


# -- after acceleration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["0", "1", "2", "3", "1.0", "1.1", "1.2"])
def test_hooks_that_come_later_see_their_own_values(place, calls):
    plain = nn.Sequential(
        nn.ConvTranspose2d(4, 4, 2), nn.Sequential(*up(nn.BatchNorm2d(4), nn.ReLU())), nn.Identity(), up(nn.Tanh())
    )
    model = gancore.accelerate(copy.deepcopy(plain))
    assert model.acceleration_report.rows[0].operator == "conv_transpose_chain of 3"
    seen: list[Any] = []
    for net in (model, plain):
        net.get_submodule(place).register_forward_hook(lambda m, a, y: seen.append((a[0], y)))
    agree(model, torch.randn(2, 4, 3, 3), plain)
    torch.testing.assert_close(seen[0], seen[1])
    assert 3 not in calls


def test_hooks_on_all_modules_see_their_own_values(calls):
    model, z = gancore.accelerate(dcgan()), codes()
    seen: list[str] = []
    with nn.modules.module.register_module_forward_hook(lambda m, a, y: seen.append(tuple(y.shape))):
        model(z)
    assert not calls
    assert len(set(seen)) == 5
    model(z)
    assert calls == [5]


def test_hooks_are_not_called_by_the_analysis(calls):
    plain = nn.Sequential(up(nn.ReLU()), up(nn.Tanh()))
    model, seen = copy.deepcopy(plain), []
    model[0].register_forward_hook(lambda m, a, y: seen.append(y))
    assert [row.places for row in gancore.accelerate(model).acceleration_report.fused] == [("0.0", "0.1"), ("1.0", "1.1")]
    assert not seen
    agree(model, torch.randn(2, 4, 3, 3), plain)
    assert len(seen) == 1
    assert calls == [1, 1]


def test_hooks_on_the_owner_stay(calls):
    model, seen = dcgan(), []
    model.register_forward_hook(lambda m, a, y: seen.append(y))
    gancore.accelerate(model)
    model.register_forward_hook(lambda m, a, y: seen.append(y))
    y = model(codes())
    assert calls == [5]
    assert [s is y for s in seen] == [True, True]
    gancore.restore(model)
    assert len(model._forward_hooks) == 2


def test_parts_run_by_themselves(calls):
    plain, z = dcgan(), codes()
    model = gancore.accelerate(copy.deepcopy(plain))
    torch.testing.assert_close(model[0](z), plain[0](z))
    torch.testing.assert_close(model[:2](z), plain[:2](z))
    h, seen = z, []
    for layer in model:
        h = layer(h)
        seen.append(tuple(h.shape))
    torch.testing.assert_close(h, plain(z))
    assert not calls
    torch.testing.assert_close(copy.deepcopy(model[0])(z), plain[0](z))


def test_an_exchanged_module_is_the_one_that_runs(calls):
    model = gancore.accelerate(dcgan(levels=1))
    model[1] = nn.BatchNorm2d(4, affine=False)
    plain = gancore.restore(copy.deepcopy(model))
    agree(model, codes(), plain)
    model[1] = plain[1] = nn.Dropout(0.0)
    agree(model, codes(), plain)
    assert not calls
    del model[1], plain[1]
    agree(model, codes(), plain)
    assert not calls
    gancore.accelerate(model)(codes())
    assert calls == [2]


@pytest.mark.parametrize("after", [nn.ReLU, nn.Dropout2d])
@pytest.mark.parametrize(("a", "b"), [(1, 2), (0, 3), (0, 1), (3, 4), (1, 4)])
def test_modules_that_change_places(a, b, after, calls):
    plain = nn.Sequential(*up(nn.BatchNorm2d(4), after()), nn.Conv2d(4, 4, 2), nn.Tanh()).eval()
    model = gancore.accelerate(copy.deepcopy(plain))
    for net in (model, plain):
        net[a], net[b] = net[b], net[a]
    agree(model, torch.randn(2, 4, 3, 3), plain)
    assert calls in ([], [1])


def test_an_activation_that_changes(calls):
    plain = nn.Sequential(*up(nn.BatchNorm2d(4), nn.LeakyReLU(0.1)), *up(nn.ELU()))
    model = gancore.accelerate(copy.deepcopy(plain))
    for net in (model, plain):
        net[2].negative_slope = 0.4
    agree(model, torch.randn(2, 4, 3, 3), plain)
    assert calls == [2]
    for net in (model, plain):
        net[4].alpha = 0.5
    agree(model, torch.randn(2, 4, 3, 3), plain)
    assert calls == [2]


class Growing(Up):
    """What forward does depends on numbers that change."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.raw = 1, None

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.raw:
            self.kept = x
        return self.act(x) if self.depth else x


@pytest.mark.parametrize(("name", "value"), [("depth", 0), ("raw", True)])
def test_a_switch_that_has_changed(name, value, calls):
    plain, x = Growing(), torch.randn(2, 4, 3, 3)
    model = gancore.accelerate(copy.deepcopy(plain))
    agree(model, x, plain)
    assert calls == [1]
    for net in (model, plain):
        setattr(net, name, value)
    agree(model, x, plain)
    assert not value or torch.equal(model.kept, plain.kept)
    assert calls == [1]


class Elsewhere(Up):
    path = "act"

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.path == "twice":
            x = self.up(x)
        return self.act(x if self.path != "other" else x + 1) if self.path else x


@pytest.mark.parametrize("path", ["", "other", "twice"])
def test_another_path_than_was_seen_is_an_error(path, monkeypatch):
    model, x = gancore.accelerate(Elsewhere()), torch.randn(2, 4, 3, 3)
    model(x)
    monkeypatch.setattr(Elsewhere, "path", path)
    with pytest.raises(RuntimeError, match=r"Elsewhere: up runs as one operator .* gancore.restore"):
        model(x)
    gancore.restore(model)(x)


def test_an_error_in_between_leaves_nothing_behind(calls, monkeypatch):
    model, z = gancore.accelerate(dcgan()), codes()
    with monkeypatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "forward", lambda *a: 1 / 0)
        patch.setattr(units, "fused", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(z)
    assert not any(vars(m).get("_turns") for m in model.modules())
    model(z)
    assert calls == [5]


def test_threads_do_not_meet(calls):
    plain, z = dcgan(), [codes() for _ in range(8)]
    plain.eval()
    model = gancore.accelerate(copy.deepcopy(plain))
    wanted = [plain(x) for x in z]
    results: list[Any] = [None] * len(z)

    def work(i: int) -> None:
        results[i] = [model(z[i]) for _ in range(8)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(z))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, want in zip(results, wanted, strict=True):
        for y in got:
            torch.testing.assert_close(y, want)
    assert calls
    assert not any(vars(m).get("_turns") for m in model.modules())


def test_an_input_without_batch(calls):
    plain = up(nn.ReLU())
    agree(gancore.accelerate(copy.deepcopy(plain)), torch.randn(4, 3, 3), plain)
    assert not calls


def test_copies_are_accelerated_and_independent(calls):
    model, z = gancore.accelerate(dcgan()), codes()
    other = copy.deepcopy(model)
    for p in other.parameters():
        nn.init.zeros_(p)
    assert not other(z).any()
    assert calls == [5]
    assert model(z).any()
    gancore.restore(other)
    model(z)
    assert calls == [5] * 3


def test_replicas_use_their_own_weights(calls):
    """As nn.DataParallel makes them: shallow copies with other tensors, each in a thread."""
    model, z = gancore.accelerate(dcgan(levels=1)), codes()
    replica = model._replicate_for_data_parallel()
    for name, module in model.named_children():
        replica._modules[name] = module._replicate_for_data_parallel()
        replica._modules[name]._parameters = {key: torch.zeros_like(p) for key, p in module._parameters.items() if p is not None}
        for key in module._parameters:
            replica._modules[name]._parameters.setdefault(key, None)
    assert not replica(z).any()
    assert model(z).any()
    assert calls == [2, 2]


def test_pickles_are_accelerated(calls):
    model, z, file = gancore.accelerate(dcgan().eval()), codes(), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert torch.equal(other(z), model(z))
    assert calls == [5, 5]
    assert str(other.acceleration_report) == str(model.acceleration_report)


@pytest.mark.parametrize("first", ["parametrize", "accelerate"])
def test_parametrised_weights(first, calls):
    plain = dcgan(levels=2)
    model = copy.deepcopy(plain)
    for net in (model, plain):
        torch.manual_seed(0)
        if first == "accelerate" and net is model:
            gancore.accelerate(net)
        for i in (0, 3, 6):
            spectral_norm(net[i])
    if first == "parametrize":
        gancore.accelerate(model)
    for _ in range(3):
        agree(model, codes(), plain)  # one power iteration a call
    assert calls == [3] * 3
    agree(copy.deepcopy(model), codes(), copy.deepcopy(plain))
    for net in (model, plain):
        parametrize.remove_parametrizations(net[3], "weight")
    agree(model, codes(), plain)
    assert calls == [3] * 5
    gancore.restore(model)
    agree(model, codes(), plain)
    assert len(calls) == 5
    assert isinstance(model[0], nn.ConvTranspose2d)
    assert not any(isinstance(m, running.Member) for m in model.modules())


def test_tied_weights(calls):
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.SiLU(), nn.ConvTranspose2d(4, 4, 3, bias=False), nn.Tanh())
    plain[2].weight = plain[0].weight
    agree(gancore.accelerate(copy.deepcopy(plain)), torch.randn(2, 4, 5, 5), plain)
    assert calls == [1, 1]


# -- compilers and transforms -----------------------------------------------------------------------------------------------


def test_compiled_in_one_graph():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = nn.Sequential(Block(), nn.Sequential(nn.ConvTranspose2d(4, 3, 2), nn.Tanh()))
    plain = copy.deepcopy(model)
    compiled = torch.compile(gancore.accelerate(model), fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(2, 4, 3, 3)
        y, wanted = compiled(x), plain(x)
        torch.testing.assert_close(y, wanted)
        gradients = [torch.autograd.grad(v.square().sum(), list(net.parameters())) for v, net in ((y, model), (wanted, plain))]
        torch.testing.assert_close(*gradients)
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_functional_call(calls):
    plain, z = dcgan(levels=2), codes()
    model = gancore.accelerate(copy.deepcopy(plain))
    weights = {name: torch.randn_like(p) for name, p in plain.named_parameters()}
    results = [torch.func.functional_call(net, weights, (z,)) for net in (model, plain)]
    torch.testing.assert_close(*results)
    assert calls == [3]


@pytest.mark.filterwarnings("ignore:.*jit.trace")
def test_what_leaves_the_process_has_plain_operators(calls):
    model, z = gancore.accelerate(dcgan(levels=2).eval()), codes()
    exported = torch.export.export(model, (z,))
    traced = torch.jit.trace(model, z, check_trace=False)
    graph = torch.fx.symbolic_trace(model)
    assert not calls
    assert "gancore::" not in str(exported.graph).replace(".", "::") + str(traced.inlined_graph)
    assert [n.op for n in graph.graph.nodes].count("call_module") == 8
    for program in (exported.module(), traced, graph):
        torch.testing.assert_close(program(z), model(z))


def test_second_derivatives_of_an_autoencoder_critic(calls):
    """BEGAN's critic under a gradient penalty, activations smooth."""
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.SiLU(), nn.Conv2d(3, 4, 3, 2, 1), nn.Softplus())
    decoder = [nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.BatchNorm2d(3), nn.ELU(), nn.ConvTranspose2d(3, 1, 4, 2, 1), nn.Tanh()]
    plain = nn.Sequential(encoder, *decoder)
    model = gancore.accelerate(copy.deepcopy(plain))
    x, results = torch.randn(4, 1, 8, 8), []
    for net in (model, plain):
        score = lambda x, net=net: (net(x) - x).abs().flatten(1).sum(1)
        with pytest.warns(UserWarning, match="batch normalisation"):
            penalty = penalties.gradient_penalty(score_module(net), x, at="real").mean()
        (score(x).mean() + penalty).backward()
        results.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    assert sorted(calls) == [1, 1, 1, 1, 2, 2]


def score_module(net: nn.Module) -> nn.Module:
    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return (self.net(x) - x).abs().flatten(1).sum(1)

    return Score()


# -- the library's own networks ---------------------------------------------------------------------------------------------


def test_the_library_runs_its_networks_fused(calls):
    spec = DataSpec((1, 16, 16), 3, "dcgan", 4)
    y = torch.tensor([0, 1])
    for build, expected in (
        (lambda: nets.generator(spec), [3]),
        (lambda: nets.generator(spec, conditional="concat"), [3]),
        (lambda: nets.generator(spec, conditional="norm"), [1]),
        (lambda: nets.critic(spec), [1]),
        (lambda: nets.critic(spec, norm=False), [1, 1]),
        (lambda: nets.autoencoder(spec, 5), [1, 1, 3]),
    ):
        net = build()
        x = torch.randn(2, getattr(net, "latent", 0)) if hasattr(net, "latent") else torch.randn(2, 1, 16, 16)
        wanted = copy.deepcopy(net)
        for module in wanted.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(lambda m, a, y: None)
        inputs = (x, y) if getattr(net, "classes", 0) else (x,)
        fused = net(*inputs)
        assert calls == expected
        torch.testing.assert_close(fused, wanted(*inputs))
        assert calls == expected
        calls.clear()
