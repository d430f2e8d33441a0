"""critic_step against float64 autograd: every loss, penalty and kind of critic; what it refuses; sabotage that has to show."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import gancore
from gancore import nets
from gancore.core import DataSpec
from gancore.layers import ConvBiasAct2d, MinibatchStddev
from gancore.losses import Pair
from gancore.penalties import critic_step, critics, gradient_penalty, scales, step
from gancore.penalties.passes import norms, pointwise, products

N = 4
Act = Callable[[], nn.Module]
Norm = Callable[[int], nn.Module] | None


class Residual(nn.Module):
    """A block of a ResNet critic, activation first."""

    def __init__(self, inputs: int, outputs: int, act: Act, norm: Norm = None) -> None:
        super().__init__()
        before = lambda c: [norm(c)] if norm else []
        self.body = nn.Sequential(
            *before(inputs), act(), nn.Conv2d(inputs, outputs, 3, 1, 1),
            *before(outputs), act(), nn.Conv2d(outputs, outputs, 3, 1, 1), nn.AvgPool2d(2),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class Shared(nn.Module):
    """One value with several readers, some views of one another, and arithmetic with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Linear(64, 1)
        self.gain, self.shift = nn.Parameter(torch.rand(4, 1, 1) + 0.5), nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        y = torch.tanh(self.second(h)) - 0.5 * h
        y = y * self.gain + self.shift
        y += h
        halves = torch.cat([y[:, :2], h[:, 2:]], 1)
        return self.last(halves.flatten(1)) + self.last(h.view(x.shape[0], -1)) + (1 - h.mean((1, 2, 3)))[:, None]


def conv(act: Act, norm: Norm = None) -> nn.Module:
    between = lambda c: [norm(c)] if norm else []
    body = [nn.Conv2d(3, 4, 4, 2, 1), *between(4), act(), nn.Conv2d(4, 6, 4, 2, 1), *between(6), act()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(24, 1))


def resnet(act: Act, norm: Norm = None) -> nn.Module:
    blocks = [Residual(4, 6, act, norm), Residual(6, 6, act, norm)]
    return nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), *blocks, act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1))


def group(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


def instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def fused() -> nn.Module:
    layers = [ConvBiasAct2d(3, 4, 4, 2, 1, act="leaky_relu", gain=1.5), ConvBiasAct2d(4, 6, 4, 2, 1, act="silu")]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 1))


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


CRITICS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": lambda: conv(leaky),
    "relu in place": lambda: conv(lambda: nn.ReLU(inplace=True)),
    "tanh": lambda: conv(nn.Tanh),
    "elu": lambda: conv(lambda: nn.ELU(0.7)),
    "silu": lambda: conv(nn.SiLU),
    "softplus": lambda: conv(nn.Softplus),
    "sigmoid, layer norm": lambda: conv(nn.Sigmoid, lambda c: nn.LayerNorm([c, 16 // c, 16 // c] if c == 4 else [c, 2, 2])),
    "instance norm": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), nn.InstanceNorm2d(4), leaky(), nn.Conv2d(4, 6, 4, 2, 1), nn.Flatten(), nn.Linear(96, 1)
    ),
    "resnet": lambda: resnet(nn.ReLU),
    "resnet, group norm": lambda: resnet(nn.ReLU, group),
    "resnet, instance norm, silu": lambda: resnet(nn.SiLU, instance),
    "mlp, layer norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.Softplus(), nn.Linear(8, 1)
    ),
    "norm of the last dimension": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(6), nn.Flatten(), nn.Linear(144, 1)),
    "patches": lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), leaky(), nn.Conv2d(4, 1, 3)),
    "max pool": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, "same"), nn.MaxPool2d(2), leaky(), nn.Conv2d(4, 2, 2, padding="same", padding_mode="reflect"),
        nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(128, 1),
    ),
    "transposed, groups, dilation": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 4, 2, 1), leaky(), nn.Conv2d(4, 6, 3, 2, dilation=2, groups=2), nn.Tanh(), nn.Flatten(1),
        nn.Linear(216, 1),
    ),
    "volumes": lambda: nn.Sequential(
        nn.Unflatten(2, (2, 4)), nn.Conv3d(3, 4, 3, 1, 1), nn.AvgPool3d(2), nn.ELU(), nn.Flatten(2), nn.Conv1d(4, 3, 3),
        nn.MaxPool1d(2), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(3, 1),
    ),
    "shared values": Shared,
    "fused layers": fused,
    "dcgan": lambda: nets.critic(DataSpec((3, 8, 8), net="dcgan", width=4), norm=False),
    "toy": lambda: nets.critic(DataSpec((3, 8, 8), net="toy", width=6)),
}  # fmt: skip

PENALTIES: dict[str, dict[str, Any]] = {
    "gp": {},
    "lp": {"one_sided": True, "center": 0.01, "norm": 1},
    "r1": {"at": "real", "center": 0.0},
    "r1 + r2": {"penalty": {"real": 5.0, "fake": 3.0}, "center": 0.0},
    "dragan": {"at": "around", "norm": float("inf")},
    "gp + r1": {"penalty": {"between": 10.0, "real": 3.0}, "center": {"between": 1.0, "real": 0.0}},
    "none": {"penalty": {}},
}


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    critic = CRITICS[name]().to(dtype)
    for module in critic.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.InstanceNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return critic


def points() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    draw = lambda *sizes: torch.randn(*sizes, generator=generator, dtype=torch.float64)
    images = {name: draw(N, 3, 8, 8) for name in ("real", "fake", "noise")}
    return {**images, "eps": draw(N).sigmoid()}


def expected(critic: nn.Module, loss: str, given: dict[str, Tensor], scale: float = 1.0, **settings: Any) -> dict[str, Tensor]:
    """The same by two nested backwards; adds to .grad too."""
    settings = dict(settings)
    at, conditions = settings.pop("at", "between"), settings.pop("conditions", ())
    weights = settings.pop("penalty", 10.0)
    weights = weights if isinstance(weights, dict) else {at: weights}
    real, fake = (critic(given[p], *conditions) for p in ("real", "fake"))
    found = {"score_real": real, "score_fake": fake, "loss": step.LOSSES[loss].critic(real, fake).mean()}
    total, found["penalty"] = found["loss"], torch.zeros((), dtype=real.dtype)
    for place, weight in weights.items():
        own = {key: value[place] if isinstance(value, dict) else value for key, value in settings.items()}
        where = {"at": place, "eps": given["eps"], "noise": given["noise"], "conditions": conditions}
        cost = gradient_penalty(critic, given["real"], given["fake"], **where, **own).mean()
        total, found["penalty"] = total + weight * cost, found["penalty"] + cost
    (scale * total).backward()
    return {key: value.detach() for key, value in found.items()}


def gradients(critic: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p).double() if p.grad is None else p.grad.double() for p in critic.parameters()]


def error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Of all gradients together, relative to their norm."""
    norm = lambda tensors: torch.cat([t.flatten() for t in tensors]).norm()
    return float(norm([f - w for f, w in zip(found, wanted, strict=True)]) / norm(wanted))


def run(critic: nn.Module, given: dict[str, Tensor], **settings: Any) -> dict[str, Tensor]:
    return critic_step(critic, given["real"], given["fake"], eps=given["eps"], noise=given["noise"], **settings)


def compare(name: str, loss: str, settings: dict[str, Any], dtype: torch.dtype) -> float:
    critic, given = make(name), points()
    wanted = expected(critic, loss, given, 3.0, **settings)
    before = gradients(critic)
    critic.zero_grad()
    critic.to(dtype)
    found = run(critic, {k: v.to(dtype) for k, v in given.items()}, loss=loss, scale=3.0, **settings)
    rounding = 1e-12 if dtype == torch.float64 else 1e-4
    for key, value in wanted.items():
        torch.testing.assert_close(found[key].double(), value, rtol=rounding, atol=rounding)
    return error(gradients(critic), before)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("name", CRITICS)
def test_every_loss_penalty_and_critic(name: str, penalty: str) -> None:
    for loss in step.LOSSES:
        assert compare(name, loss, PENALTIES[penalty], torch.float64) < 1e-12, loss


@pytest.mark.parametrize("name", CRITICS)
def test_float32(name: str) -> None:
    for loss, penalty in zip([*step.LOSSES, "wasserstein"], ("gp", "r1", "r1 + r2", "gp + r1", "lp"), strict=True):
        assert compare(name, loss, PENALTIES[penalty], torch.float32) < 1e-5, (loss, penalty)


# -- known answers, and what is returned -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_critic_of_slope_one_costs_nothing_at_any_batch_size(count: int) -> None:
    critic = nn.Linear(2, 1).double()
    critic.weight.data = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    found = critic_step(critic, *torch.randn(2, count, 2, dtype=torch.float64))
    assert float(found["penalty"]) == pytest.approx(0, abs=1e-14)
    torch.testing.assert_close(found["grad_norm"], torch.ones(count, dtype=torch.float64))


def test_what_is_returned() -> None:
    critic, given = make("leaky_relu", torch.float32), {k: v.float() for k, v in points().items()}
    found = run(critic, given)
    assert set(found) == {"loss", "score_real", "score_fake", "penalty", "grad_norm"}
    assert {key: tuple(v.shape) for key, v in found.items()} == {
        "loss": (), "penalty": (), "score_real": (N, 1), "score_fake": (N, 1), "grad_norm": (N,)
    }  # fmt: skip
    assert all(v.dtype == torch.float32 and not v.requires_grad for v in found.values())
    assert float(found["penalty"]) == pytest.approx(float((found["grad_norm"] - 1).square().mean()))
    several = run(critic, given, penalty={"real": 1.0, "fake": 1.0})
    assert several["grad_norm"].shape == (2 * N,)
    torch.testing.assert_close(several["grad_norm"][:N], run(critic, given, at="real")["grad_norm"])


def test_gradients_add_up_and_points_are_left_alone() -> None:
    critic, given = make("resnet, group norm"), points()
    before = {k: v.clone() for k, v in given.items()}
    given["fake"].requires_grad_()
    run(critic, given)
    once = [g.clone() for g in gradients(critic)]
    run(critic, given)
    assert error(gradients(critic), [2 * g for g in once]) < 1e-13
    assert given["fake"].grad is None
    assert all(torch.equal(given[k], v) for k, v in before.items())


def test_frozen_parameters_get_nothing() -> None:
    parts = (("leaky_relu", "0."), ("leaky_relu", "2."), ("tanh", "0."), ("resnet, group norm", "1.body"), ("tanh", "5."))
    for name, frozen in parts:
        critic, given = make(name), points()
        for key, p in critic.named_parameters():
            p.requires_grad_(not key.startswith(frozen))
        expected(critic, "hinge", given, penalty={"real": 2.0, "between": 10.0})
        wanted = gradients(critic)
        critic.zero_grad()
        run(critic, given, loss="hinge", penalty={"real": 2.0, "between": 10.0})
        assert error(gradients(critic), wanted) < 1e-12
        assert all((p.grad is None) != p.requires_grad for p in critic.parameters())
    critic.requires_grad_(False)
    assert float(run(critic, given)["penalty"]) > 0


@pytest.mark.parametrize("old", [False, True])
def test_the_gradient_goes_on_through_spectral_normalisation(old: bool) -> None:
    normalise = torch.nn.utils.spectral_norm if old else spectral_norm
    critic = make("tanh")
    for i in (0, 2):
        normalise(critic[i])
    critic.eval()
    expected(critic, "hinge", points(), at="real")
    wanted = gradients(critic)
    critic.zero_grad()
    run(critic, points(), loss="hinge", at="real")
    assert error(gradients(critic), wanted) < 1e-12
    if not old:
        u = critic[0].parametrizations.weight[0]._u.clone()
        run(critic.train(), points())
        assert not torch.equal(u, critic[0].parametrizations.weight[0]._u)


@pytest.mark.parametrize("how", ["concat", "projection"])
@pytest.mark.parametrize("net", ["toy", "dcgan"])
def test_conditions(how: str, net: str) -> None:
    torch.manual_seed(1)
    critic = nets.critic(DataSpec((3, 8, 8), classes=3, net=net, width=4), norm=False, conditional=how).double()
    labels = torch.tensor([0, 2, 1, 2])
    expected(critic, "hinge", points(), penalty={"real": 2.0, "between": 10.0}, conditions=(labels,))
    wanted = gradients(critic)
    critic.zero_grad()
    run(critic, points(), loss="hinge", penalty={"real": 2.0, "between": 10.0}, conditions=(labels,))
    assert error(gradients(critic), wanted) < 1e-12


def test_several_inputs_share_one_norm() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return self.last(torch.tanh(self.a(x) - self.b(z))).squeeze(1)

    torch.manual_seed(2)
    critic, draw = Two().double(), lambda size: torch.randn(N, size, dtype=torch.float64)
    real, fake, eps = (draw(3), draw(2)), (draw(3), draw(2)), torch.rand(N, dtype=torch.float64)
    cost = gradient_penalty(critic, real, fake, eps=eps).mean()
    (critic(*fake).mean() - critic(*real).mean() + 10 * cost).backward()
    wanted = gradients(critic)
    critic.zero_grad()
    found = critic_step(critic, real, fake, eps=eps)
    assert error(gradients(critic), wanted) < 1e-12
    assert float(found["penalty"]) == pytest.approx(float(cost.detach()))


def test_an_accelerated_and_a_compiled_critic() -> None:
    critic = make("leaky_relu")
    run(critic, points())
    wanted = gradients(critic)
    for other in (gancore.accelerate(copy.deepcopy(critic)), torch.compile(critic)):
        critic.zero_grad()
        other.zero_grad()
        run(other, points())
        assert error(gradients(other), wanted) < 1e-13


def test_any_pair_and_a_scale_on_the_device() -> None:
    relativistic = Pair(lambda real, fake: F.softplus(fake - real), lambda fake: -fake)
    critic, given = make("silu"), points()
    F.softplus(critic(given["fake"]) - critic(given["real"])).mean().mul(8).backward()
    wanted = gradients(critic)
    critic.zero_grad()
    run(critic, given, loss=relativistic, penalty={}, scale=torch.tensor(8.0))
    assert error(gradients(critic), wanted) < 1e-12


# -- low precision -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["leaky_relu", "tanh", "resnet", "resnet, group norm", "resnet, instance norm, silu", "dcgan"])
@pytest.mark.parametrize("penalty", ["gp", "r1 + r2"])
def test_bfloat16_errs_at_most_twice_as_much_as_plain_pytorch(name: str, penalty: str) -> None:
    settings = PENALTIES[penalty]
    critic, given = make(name), points()
    expected(critic, "non_saturating", given, **settings)
    wanted = gradients(critic)
    critic.float()
    narrow = {k: v.float() for k, v in given.items()}
    errors = []
    for engine in (expected, lambda critic, loss, given, **k: run(critic, given, loss=loss, **k)):
        critic.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            engine(critic, "non_saturating", narrow, **settings)
        errors.append(error(gradients(critic), wanted))
    plain, ours = errors
    assert ours <= 2 * plain
    assert 1e-4 < plain < 0.5


@pytest.mark.parametrize("slope", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("scale", [1.0, 2.0**12, 2.0**16])
def test_float16_is_finite_and_near(slope: float, scale: float) -> None:
    torch.manual_seed(5)
    critic = nn.Sequential(nn.Linear(12, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)).double()
    given = {k: v.flatten(1)[:, :12] if v.dim() > 1 else v for k, v in points().items()}
    size = run(critic, given)["grad_norm"].mean()
    critic[-1].weight.data *= slope / size
    center = slope / 2
    critic.zero_grad()
    expected(critic, "wasserstein", given, penalty=0.01 / slope, center=center)
    wanted = gradients(critic)
    critic.float()
    narrow = {k: v.float() for k, v in given.items()}
    for _ in range(3):  # the scale of the input's gradient follows its magnitude
        critic.zero_grad()
        with torch.autocast("cpu", torch.float16):
            run(critic, narrow, penalty=0.01 / slope, center=center, scale=scale)
    found = [g / scale for g in gradients(critic)]
    if all(g.isfinite().all() for g in found):
        assert error(found, wanted) < 0.02
    else:  # the loss scaler's own doing: its gradient of the loss is beyond float16
        assert scale * slope > 2**15


def test_the_scale_of_the_input_gradient_follows_it_and_is_a_power_of_two() -> None:
    critic = nn.Linear(4, 1)
    critic.weight.data.fill_(2.0**-16)
    with torch.autocast("cpu", torch.float16):
        for _ in range(2):
            found = critic_step(critic, torch.randn(N, 4), torch.randn(N, 4))
            assert found["grad_norm"].tolist() == [2.0**-15] * N
    scale = float(critics.scale(critics.number(critic, critic.weight.device)))
    assert math.log2(scale).is_integer()
    assert scales.SMALL <= scale * 2.0**-16 <= scales.LARGE


# -- what it refuses ---------------------------------------------------------------------------------------------------------


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 2


class Opaque(torch.autograd.Function):
    """Looks at nothing of its input that a function mode could see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.ones(())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 2


def over_a_view(x: Tensor) -> Tensor:
    y = x.view(x.shape[0], -1)
    F.relu_(y)
    return x


STRANGE: dict[str, tuple[nn.Module, str]] = {
    "batch norm": (nn.BatchNorm2d(4), r"layer '1' \(BatchNorm2d\) calls .*batch_norm"),
    "instance norm with statistics": (nn.InstanceNorm2d(4, track_running_stats=True), "running statistics"),
    "dropout": (nn.Dropout(0.5), "by chance"),
    "gelu": (nn.GELU(), r"layer '1' \(GELU\)"),
    "minibatch": (MinibatchStddev(2), r"\(MinibatchStddev\) calls .*minibatch_stddev"),
    "product": (Calls(lambda x: x * x.mean((2, 3), keepdim=True)), r"layer '1' \(Calls\) multiplies values that both"),
    "batch mean": (Calls(lambda x: x - x.mean(0, keepdim=True)), "sums over the batch"),
    "mean of all": (Calls(lambda x: x - x.mean()), "sums over the batch"),
    "turned": (Calls(lambda x: x.transpose(0, 1).transpose(0, 1)), "batch's dimension"),
    "detached": (Calls(lambda x: x.detach()), "detach"),
    "branch": (Calls(lambda x: x if x.sum() > 0 else -x), "sums over the batch"),
    "no_grad": (Calls(no_grad), "no_grad"),
    "function": (Calls(Doubled.apply), "no_grad"),
    "opaque function": (Calls(lambda x: x + Opaque.apply(x)), "does not see"),
    "over a view": (Calls(over_a_view), "views"),
    "samples picked": (Calls(lambda x: x[1:]), "picks samples"),
    "clamp": (ConvBiasAct2d(4, 4, 3, 1, 1, act="relu", clamp=1.0), "clamps"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_has_no_exact_rule_is_named(name: str) -> None:
    module, words = STRANGE[name]
    critic = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), module, nn.LazyConv2d(1, 8), nn.Flatten()).double()
    critic[2] = nn.Conv2d(5 if name == "minibatch" else 4, 1, 8).double()
    with pytest.raises(NotImplementedError, match=words) as told:
        run(critic, points())
    assert "gradient_penalty" in str(told.value)
    assert all(p.grad is None for p in critic.parameters())


def test_a_score_that_is_none_of_the_points() -> None:
    with pytest.raises(NotImplementedError, match="returns a tensor"):
        run(Calls(lambda x: torch.ones(x.shape[0])), points())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "wgan"}, "loss got 'wgan'"), ({"at": "here"}, "at must be"), ({"norm": 3}, "norm"),
        ({"penalty": {"real": 1.0}, "center": {"fake": 1.0}}, "center got places"),
    ],
)  # fmt: skip
def test_wrong_arguments(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(make("leaky_relu"), points(), **settings)


def test_unequal_numbers_of_points() -> None:
    with pytest.raises(ValueError, match="as many"):
        critic_step(nn.Linear(2, 1), torch.randn(3, 2), torch.randn(4, 2))


# -- sabotage ----------------------------------------------------------------------------------------------------------------


def zero(true: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: 0 * true(*given)


def off(true: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: 1.02 * true(*given)


def unchanged(true: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, ts, rows, out=None: ts[0]


SABOTAGE: dict[str, tuple[str, type, str, Callable[..., Any]]] = {
    "no second derivative of tanh": ("tanh", pointwise.Activation, "bend", zero),
    "no second derivative of the norm": ("resnet, group norm", norms._Norm, "bend", zero),
    "wrong tangent of a convolution": ("leaky_relu", products.Convolution, "tangent", off),
    "wrong tangent of a norm": ("resnet, group norm", norms._Norm, "tangent", off),
    "tangent without the slope": ("leaky_relu", pointwise.Activation, "tangent", unchanged),
    "wrong adjoint": ("leaky_relu", products.Linear, "adjoint", off),
    "wrong weight gradient": ("tanh", products.Convolution, "product", off),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    critic, place, method, worse = SABOTAGE[name]
    given, own = points(), make(critic)
    expected(own, "wasserstein", given)
    wanted = gradients(own)
    monkeypatch.setattr(place, method, worse(getattr(place, method)))
    own.zero_grad()
    run(own, given)
    assert error(gradients(own), wanted) > 1e-4


def test_a_scale_that_is_not_undone_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    true = step._Step._penalties

    def skipped(self: Any, gradients: Any, *rest: Any) -> Any:
        kept, self.own.value = self.own.value, 1.0
        try:
            return true(self, gradients, *rest)
        finally:
            self.own.value = kept

    def four(self: Any, *rest: Any) -> None:
        vars(self).update(kept=None, value=4.0)

    own, given = make("leaky_relu"), points()
    expected(own, "wasserstein", given)
    wanted = gradients(own)
    monkeypatch.setattr(step._OwnScale, "__init__", four)
    own.zero_grad()
    run(own, given)
    assert error(gradients(own), wanted) < 1e-12
    monkeypatch.setattr(step._Step, "_penalties", skipped)
    own.zero_grad()
    run(own, given)
    assert error(gradients(own), wanted) > 1e-2
