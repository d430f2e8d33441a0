"""Layers that are one operator: torch.nn's arguments, initialisation and statistics; modules that they take over; chains."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gancore import layers


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """Gradients that vanish, as a bias's before a norm, compare in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def of(name: str, dims: int) -> Any:
    return getattr(layers if hasattr(layers, f"{name}{dims}d") else nn, f"{name}{dims}d")


def agree(model: nn.Module, x: Tensor, plain: nn.Module) -> None:
    results = []
    for net in (model, plain):
        z = x.clone().requires_grad_()
        y = net(z)
        results.append((y, *torch.autograd.grad(y.square().sum(), [z, *net.parameters()])))
    torch.testing.assert_close(*results)


ACTS = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "elu": nn.ELU(), "silu": nn.SiLU(), "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(), None: nn.Identity()}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_convolutions_start_and_run_as_torch_nn(dims, act):
    torch.manual_seed(3)
    fused = of("ConvTransposeBNAct", dims)(4, 6, 3, 2, 1, 1, groups=2, act=act)
    torch.manual_seed(3)
    plain = nn.Sequential(of("ConvTranspose", dims)(4, 6, 3, 2, 1, 1, groups=2), of("BatchNorm", dims)(6), ACTS[act])
    assert all(torch.equal(a, b) for a, b in zip(fused.parameters(), plain.parameters(), strict=True))
    for mode in (True, False):
        agree(fused.train(mode), torch.randn(3, 4, *[3] * dims), plain.train(mode))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(fused, name), getattr(plain[1], name))


@pytest.mark.parametrize("act", [*ACTS, "softplus"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_start_and_run_as_torch_nn(dims, act):
    torch.manual_seed(3)
    fused = of("ConvBiasAct", dims)(4, 6, 3, 2, 1, 1, 2, act=act)
    torch.manual_seed(3)
    plain = nn.Sequential(of("Conv", dims)(4, 6, 3, 2, 1, 1, 2), nn.Softplus() if act == "softplus" else ACTS[act])
    assert all(torch.equal(a, b) for a, b in zip(fused.parameters(), plain.parameters(), strict=True))
    agree(fused, torch.randn(3, 4, *[5] * dims), plain)


@pytest.mark.parametrize(
    "options", [{"affine": False}, {"momentum": None}, {"track_running_stats": False}, {"eps": 0.1, "momentum": 0.7}]
)
def test_options_of_the_norm(options):
    fused = layers.ConvTransposeBNAct2d(2, 3, 2, **options)
    plain = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3, **options), nn.ReLU())
    plain[0].load_state_dict({"weight": fused.weight, "bias": fused.bias})
    for mode in (True, True, False):
        x = torch.randn(4, 2, 3, 3)
        torch.testing.assert_close(fused.train(mode)(x), plain.train(mode)(x))
    assert len(list(fused.buffers())) == len(list(plain.buffers()))


def test_without_norm_or_bias_and_other_options():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float32)
    bare = layers.ConvTransposeBNAct2d(3, 2, 3, norm=False, bias=False, act="leaky_relu", slope=0.3, dtype=torch.float32)
    assert list(bare.state_dict()) == ["weight"]
    torch.testing.assert_close(bare(x), nn.functional.leaky_relu(nn.functional.conv_transpose2d(x, bare.weight), 0.3))
    down = layers.ConvBiasAct2d(3, 2, 3, padding="same", act="tanh", gain=2.0, clamp=1.0, dtype=torch.float32)
    wanted = (2 * torch.tanh(nn.functional.conv2d(x, down.weight, down.bias, padding=1))).clamp(-1, 1)
    torch.testing.assert_close(down(x), wanted)
    assert down.padding == (1, 1)  # the operator takes numbers
    assert "act=tanh" in repr(down)


def test_modules_are_taken_over():
    conv, bn, down = nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3, momentum=None), nn.Conv2d(3, 2, 2)
    fused = layers.ConvTransposeBNAct2d.from_modules(conv, bn, nn.LeakyReLU(0.4))
    assert fused.weight is conv.weight
    assert fused.bn_bias is bn.bias
    assert fused.running_var is bn.running_var
    assert (fused.act, fused.slope, fused.momentum, fused.training) == ("leaky_relu", 0.4, None, True)
    x = torch.randn(4, 2, 3, 3)
    agree(fused, x, copy.deepcopy(nn.Sequential(conv, bn, nn.LeakyReLU(0.4))))
    assert bn.num_batches_tracked == 1
    after = layers.ConvBiasAct2d.from_modules(down, "tanh")
    assert after.bias is down.bias
    torch.testing.assert_close(after(x.new_ones(1, 3, 4, 4)), torch.tanh(down(x.new_ones(1, 3, 4, 4))))
    assert not layers.ConvTransposeBNAct2d.from_modules(conv, bn.eval(), None).training
    alone = layers.ConvTransposeBNAct2d.from_modules(conv, None, None)
    torch.testing.assert_close(alone(x), conv(x))
    synchronised = layers.ConvTransposeBNAct2d.from_modules(conv, nn.SyncBatchNorm(3, process_group="g"), None)
    assert (synchronised.synchronised, synchronised.process_group) == (True, "g")


up, down = layers.ConvTransposeBNAct2d, layers.ConvBiasAct2d


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: up.from_modules(nn.Conv2d(2, 2, 2), None, None), "conv got Conv2d, wants ConvTranspose2d"),
        (lambda: up.from_modules(weight_norm(nn.ConvTranspose2d(2, 2, 2)), None, None), "gancore.accelerate"),
        (lambda: up.from_modules(nn.ConvTranspose2d(2, 2, 2), nn.BatchNorm1d(2), None), "bn got BatchNorm1d"),
        (lambda: up.from_modules(nn.ConvTranspose2d(2, 2, 2), nn.BatchNorm2d(3), None), "of 2 channels"),
        (lambda: up.from_modules(nn.ConvTranspose2d(2, 2, 2), None, nn.GELU()), "act got GELU"),
        (lambda: up(2, 2, 2, act="gelu"), "act got gelu, wants one of linear, relu"),
        (lambda: down(2, 2, 2, padding="same"), "padding got 'same' in mode 'zeros'"),
        (lambda: down.from_modules(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), None), "mode 'circular'"),
        (lambda: layers.ConvTransposeChain(nn.ReLU()), "layers got ReLU"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="unexpected argument 'negative_slope'"):
        up(2, 2, 2, negative_slope=0.1)


def chain() -> layers.ConvTransposeChain:
    return layers.ConvTransposeChain(up(2, 4, 3, 2), up(4, 3, 3, 2, act="silu"), up(3, 2, 3, norm=False, act="tanh"))


def test_a_chain_is_its_layers(monkeypatch):
    model = chain()
    plain, x = nn.Sequential(*copy.deepcopy(list(model))), torch.randn(3, 2, 3, 3)
    assert list(model.state_dict()) == list(plain.state_dict())
    lengths, whole = [], layers.units.transposed
    monkeypatch.setattr(layers.units, "transposed", lambda x, links, *a: lengths.append(len(links)) or whole(x, links, *a))
    agree(model, x, plain)
    assert lengths == [3, 1, 1, 1]
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    torch.testing.assert_close(model[:2](x), plain[:2](x))
    seen: list[Tensor] = []
    model[1].register_forward_hook(lambda m, a, y: seen.append(y))
    lengths.clear()
    torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(seen[0], plain[:2](x))


def test_copies_pickles_and_compilers():
    model, x, file = chain().eval(), torch.randn(3, 2, 3, 3), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    torch._dynamo.reset()
    small = layers.ConvTransposeChain(up(2, 2, 2), up(2, 2, 2)).eval()
    torch.testing.assert_close(torch.compile(small, fullgraph=True, backend="aot_eager")(x), small(x))
