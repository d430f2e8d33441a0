"""Bodies and layers: shapes, the guidelines of the DCGAN paper, labels, spectral normalisation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gancore import nets
from gancore.core import DataSpec, UsageError
from gancore.layers import ConditionalBatchNorm, OneHot, spectral

LABELS = torch.tensor([0, 1])


def spec(side: int = 16, channels: int = 1, classes: int = 0, width: int = 4, net: str = "dcgan") -> DataSpec:
    return DataSpec((channels, side, side), classes, net, width)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
def test_dcgan_shapes(side: int, channels: int) -> None:
    pair = nets.gan(spec(side, channels, width=2))
    images = pair["G"](torch.randn(2, pair["G"].latent))
    assert images.shape == (2, channels, side, side)
    assert images.abs().max() < 1
    assert pair["D"](images).shape == (2,)
    assert nets.encoder(spec(side, channels, width=2), 5)(images).shape == (2, 5)
    assert pair["D"].features(images).shape[2:] == (4, 4)


def test_dcgan_at_64_has_the_sizes_of_the_paper() -> None:
    pair = nets.gan(DataSpec((3, 64, 64), net="dcgan"))
    assert pair["G"].latent == 100
    assert [c.out_channels for c in pair["G"].convs] == [512, 256, 128, 64]
    assert [c.out_channels for c in pair["D"].tower.convs] == [64, 128, 256, 512]


def test_dcgan_keeps_to_the_guidelines() -> None:
    pair = nets.gan(spec(32))
    for net in pair.values():
        kinds = {type(m) for m in net.modules()}
        assert not kinds & {nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.AvgPool1d, nn.Dropout}
    assert kernels(pair["G"], nn.ConvTranspose2d) == [(4, 1), (4, 2), (4, 2), (4, 2)]
    assert kernels(pair["D"], nn.Conv2d) == [(4, 2), (4, 2), (4, 2), (4, 1)]
    # As they run: tanh at the end of G, nothing at that of D.
    assert activations(pair["G"], torch.randn(4, 100)) == {"relu", "tanh"}
    assert activations(pair["D"], torch.randn(4, 1, 32, 32)) == {"leaky_relu 0.2"}


def kernels(net: nn.Module, kind: type) -> list[tuple[int, int]]:
    return [(m.kernel_size[0], m.stride[0]) for m in net.modules() if isinstance(m, kind)]


def activations(net: nn.Module, x: Tensor) -> set[str]:
    found = set()

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = function.overloadpacket.__name__
            if name in ("relu", "tanh", "sigmoid", "elu", "gelu"):
                found.add(name)
            if name == "leaky_relu":
                found.add(f"{name} {args[1]}")
            return function(*args, **(kwargs or {}))

    # With a hook the modules run one by one, so that PyTorch's own operators show.
    with Listen(), nn.modules.module.register_module_forward_hook(lambda *a: None):
        net(x)
    return found


def test_dcgan_weights_are_those_of_the_paper() -> None:
    for net in nets.gan(spec(32, width=32)).values():
        for name, layer in net.named_modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 2_000:
                assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.06), name
                assert abs(float(layer.weight.detach().mean())) < 0.002
                assert layer.bias is None or not layer.bias.any()
            elif isinstance(layer, nn.BatchNorm2d):
                assert float(layer.weight.detach().mean()) == pytest.approx(1, abs=0.015)
                assert 0.01 < float(layer.weight.detach().std()) < 0.03
                assert not layer.bias.any()


def test_batch_norm_is_everywhere_but_in_the_last_layer_of_g_and_the_first_of_d() -> None:
    pair = nets.gan(spec(32))
    assert [type(n) for n in pair["G"].norms] == [nn.BatchNorm2d] * 3
    assert [n.num_features for n in pair["G"].norms] == [c.out_channels for c in pair["G"].convs]
    assert [type(n) for n in pair["D"].tower.norms] == [nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in pair["G"].modules()) == 3
    # A convolution before a norm needs no bias; those without one have it.
    assert [c.bias is None for c in pair["D"].tower.convs] == [False, True, True]
    assert pair["D"].last.bias is not None
    assert pair["G"].last.bias is not None


def test_a_critic_without_norm_scores_each_sample_alone() -> None:
    critic = nets.critic(spec(), norm=False)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    assert not critic.separate
    x = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))
    assert nets.critic(spec()).separate
    assert not torch.allclose(nets.critic(spec()).train()(x)[:2], nets.critic(spec()).train()(x[:2]))


@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 4, 4), (1, 16, 8), (16, 16), (2,), (1, 48, 48), (1, 17, 17)])
def test_sizes_that_dcgan_cannot_build(shape: tuple[int, ...]) -> None:
    for build in (nets.generator, nets.critic):
        with pytest.raises(UsageError, match="4 times a power of two"):
            build(DataSpec(shape, net="dcgan"))


CONDITIONS = [
    ("toy", "concat", "concat"),
    ("toy", "concat", "projection"),
    ("dcgan", "concat", "concat"),
    ("dcgan", "norm", "projection"),
]


@pytest.mark.parametrize(("net", "generator", "critic"), CONDITIONS)
def test_labels_reach_both_players(net: str, generator: str, critic: str) -> None:
    shape = spec(8, classes=3, net=net)
    g, d = nets.generator(shape, conditional=generator), nets.critic(shape, conditional=critic)
    assert g.classes == d.classes == 3
    for p in (*g.parameters(), *d.parameters()):
        nn.init.normal_(p, 0, 0.3)
    z, x = torch.randn(1, g.latent).expand(2, -1), torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1)
    made, score = g.eval()(z, LABELS), d.eval()(x, LABELS)
    assert (made[0] - made[1]).abs().max() > 1e-3
    assert (score[0] - score[1]).abs() > 1e-3


def test_projection_is_an_inner_product_of_label_and_features() -> None:
    # Miyato and Koyama: f(x, y) - psi(phi(x)) = <embedding(y), phi(x)>, phi summed over places.
    d = nets.critic(spec(16, classes=3), conditional="projection", norm=False)
    x, y = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 1])
    features = d.features(x)
    expected = d.last(features).flatten() + (d.projection.weight[y] * features.sum((2, 3))).sum(1)
    torch.testing.assert_close(d(x, y), expected)


def test_unconditional_data_is_refused_by_conditional_nets() -> None:
    with pytest.raises(UsageError, match="labels"):
        nets.generator(spec(), conditional="concat")


@pytest.mark.parametrize("build", [nets.generator, nets.critic])
def test_an_unknown_way_of_conditioning_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match="conditional must be"):
        build(spec(classes=3), conditional="film")


def test_conditional_batch_norm() -> None:
    layer, x = ConditionalBatchNorm(2, 3), torch.randn(4, 2, 3, 3)
    y = torch.tensor([0, 0, 1, 2])
    torch.testing.assert_close(layer(x, y), nn.BatchNorm2d(2)(x))  # at the start scales are 1 and shifts 0
    with torch.no_grad():
        layer.scale.weight[1] = 2.0
        layer.shift.weight[1] = 5.0
    torch.testing.assert_close(layer(x, y)[2], 2 * nn.BatchNorm2d(2)(x)[2] + 5)
    torch.testing.assert_close(layer(x, y)[3], nn.BatchNorm2d(2)(x)[3])


def test_one_hot_appends_the_label() -> None:
    assert OneHot(3)(torch.zeros(2, 1), torch.tensor([2, 0])).tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    maps = OneHot(2)(torch.zeros(1, 1, 2, 2), torch.tensor([1]))
    assert maps.mean((2, 3)).tolist() == [[0, 0, 1]]


def test_spectral_normalisation_bounds_every_layer() -> None:
    critic = nets.critic(spec(16, classes=3), norm=False, conditional="projection", spectral_norm=True)
    for p in critic.parameters():
        nn.init.normal_(p, 0, 1.0)  # far from slope 1
    x, y = torch.randn(2, 1, 16, 16), torch.tensor([0, 2])
    for _ in range(60):
        critic(x, y)
    layers = [m for m in critic.eval().modules() if isinstance(m, nn.Conv2d | nn.Embedding)]
    assert len(layers) == 4
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    assert sum(key.endswith("._u") for key in critic.state_dict()) == 4


def test_spectral_state_round_trip() -> None:
    a, b = (spectral(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))) for _ in range(2))
    x = torch.randn(5, 3)
    for _ in range(3):
        a(x)
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))
    assert torch.equal(a.eval()(x), b.eval()(x))


def test_toy_nets_are_those_of_the_ring_protocol() -> None:
    pair = nets.gan(DataSpec((2,)))
    assert [tuple(layer.weight.shape) for layer in pair["G"].body.hidden] == [(128, 8), (128, 128), (128, 128)]
    assert [tuple(layer.weight.shape) for layer in pair["D"].body.hidden] == [(128, 2), (128, 128), (128, 128)]
    assert activations(pair["D"], torch.randn(3, 2)) == {"leaky_relu 0.2"}
    assert pair["G"](torch.randn(3, 8)).shape == (3, 2)
    assert pair["D"](torch.randn(3, 2)).shape == (3,)
    digits = nets.gan(DataSpec((1, 8, 8)))
    assert digits["G"](torch.randn(3, digits["G"].latent)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("kind", ["deterministic", "gaussian", "universal"])
@pytest.mark.parametrize("shape", [DataSpec((2,), width=8), DataSpec((1, 16, 16), net="dcgan", width=4)])
def test_posteriors(kind: str, shape: DataSpec) -> None:
    q, x = nets.posterior(shape, 3, kind).eval(), torch.randn(4, *shape.shape)
    assert q(x).shape == (4, 3)
    assert torch.equal(q.mode(x), q.mode(x))
    assert torch.equal(q(x), q(x)) == (kind == "deterministic")


def test_an_unknown_posterior_is_refused() -> None:
    with pytest.raises(ValueError, match="posterior must be"):
        nets.posterior(DataSpec((2,)), 3, "laplace")


@pytest.mark.parametrize("shape", [DataSpec((2,), width=8), DataSpec((1, 16, 16), net="dcgan", width=4)])
def test_autoencoders_return_what_they_are_given(shape: DataSpec) -> None:
    net, x = nets.autoencoder(shape, 5), torch.randn(3, *shape.shape)
    assert net(x).shape == x.shape
    assert net.codes(x).shape == (3, 5)
