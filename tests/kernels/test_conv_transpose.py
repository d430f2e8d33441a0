"""What is special to conv_transposeNd_bn_act and its chains: PyTorch's modules, memory, ranks. The contract test has the rest."""

import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import gancore.kernels
from gancore.kernels import ConvTransposeLink, conv_transpose2d_bn_act, conv_transpose_chain
from gancore.kernels.conv_transpose import chain as chains
from tests.kernels import ranks
from tests.kernels.checks import assert_same_bits, derivatives, relative
from tests.kernels.walk import place

ACTS = {None: nn.Identity(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "elu": nn.ELU(), "silu": nn.SiLU(),
        "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}  # fmt: skip
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def _native() -> None:
    place("native")


def operator(dims):
    return getattr(gancore.kernels, f"conv_transpose{dims}d_bn_act")


def check(found, wanted, bound):
    """`bound` relative to the largest element of each."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        size = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        torch.testing.assert_close(found[name], value, rtol=bound, atol=bound * size, msg=lambda m, n=name: f"{n}: {m}")


# -- against PyTorch's modules ----------------------------------------------------------------------------------------------


def modules(dims, norm, act, bias, **sizes):
    """Transposed convolution, batch norm and activation, in float64, with statistics that tell channels apart."""
    conv = getattr(nn, f"ConvTranspose{dims}d")(4, 6, bias=bias, **sizes)
    if norm == "none":
        return nn.Sequential(conv, nn.Identity(), ACTS[act]).double()
    bn = getattr(nn, f"BatchNorm{dims}d")(6, track_running_stats=norm != "untracked")
    for t in (*bn.parameters(), *bn.buffers()):
        if t.is_floating_point():
            nn.init.uniform_(t, 0.5, 1.5)
    return nn.Sequential(conv, bn, ACTS[act]).double().train(norm != "evaluation")


def arguments(net):
    """The operator's names of the modules' parameters, and its other arguments."""
    conv, bn = net[0], net[1]
    names = {"0.weight": "weight", "0.bias": "bias", "1.weight": "bn_weight", "1.bias": "bn_bias"}
    options = {name: getattr(conv, name) for name in ("stride", "padding", "output_padding", "groups", "dilation")}
    if isinstance(bn, nn.Identity):
        return names, options
    options |= {name: None if getattr(bn, name) is None else getattr(bn, name).clone() for name in STATISTICS}
    return names, options | {"training": bn.training}


def configurations():
    """Of every choice of each option, some combinations."""
    choices = {
        "dims": (1, 2, 3), "norm": ("training", "evaluation", "none", "untracked"), "act": tuple(ACTS), "bias": (True, False),
        "kernel_size": (1, 2, 3, 4), "stride": (1, 2, 3), "padding": (0, 1), "output_padding": (0, 1), "groups": (1, 2),
        "dilation": (1, 2),
    }  # fmt: skip
    every = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    fits = lambda c: c["padding"] <= (c["kernel_size"] - 1) * c["dilation"]
    valid = [c for c in every if fits(c) and c["output_padding"] < max(c["stride"], c["dilation"])]
    return random.Random(5).sample(valid, 60)


@pytest.mark.parametrize("how", configurations(), ids=lambda how: "-".join(str(v) for v in how.values()))
def test_values_and_derivatives_are_those_of_the_modules(how):
    how = dict(how)
    dims, act = how["dims"], how["act"]
    net = modules(**how)
    names, options = arguments(net)
    tensors = {"x": torch.randn(3, 4, *(4, 3, 2)[:dims], dtype=torch.float64)}
    tensors |= {names[name]: p.detach() for name, p in net.named_parameters()}

    def plain(x, **parameters):
        return functional_call(net, {name: parameters[mine] for name, mine in names.items() if mine in parameters}, (x,))

    found = derivatives(operator(dims), tensors, {**options, "act": act, "impl": "native"})
    wanted = derivatives(plain, tensors, {})
    assert {"y0", "d_x", "d_weight", "dd_x", "dd_weight"} <= found.keys()
    if options.get("training"):  # the modules have the rounding errors of sums that cancel
        for name in wanted.keys() & {"d_bias", "dd_bias"}:
            assert not found.pop(name).any()
            del wanted[name]
    check(found, wanted, 1e-9)
    if how["norm"] in ("training", "evaluation"):
        for name in STATISTICS:
            torch.testing.assert_close(options[name], getattr(net[1], name), rtol=1e-12, atol=1e-12)


# common_methods_invocations wants expecttest for its own test cases alone, and changes flags of the process.
SAMPLES = """
import sys, types, unittest
import torch
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))
from torch.testing._internal.common_methods_invocations import op_db
found = {}
for op in op_db:
    if op.name.startswith("nn.functional.conv_transpose"):
        found[op.name] = [(s.input, s.args, s.kwargs) for s in op.sample_inputs("cpu", torch.float64)]
torch.save(found, sys.argv[1])
"""


def test_pytorchs_own_samples(tmp_path):
    file = tmp_path / "samples.pt"
    done = subprocess.run([sys.executable, "-c", SAMPLES, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, seen = Counter(), torch.load(file)
    for dims, dtype in itertools.product((1, 2, 3), (torch.float64, torch.float32, torch.bfloat16, torch.float16)):
        name = f"conv_transpose{dims}d"
        for x, (weight, bias), sizes in seen[f"nn.functional.{name}"]:
            tensors = [t if t is None else t.to(dtype) for t in (x, weight, bias)]
            found = operator(dims)(*tensors, act=None, impl="native", **sizes)
            wanted = getattr(F, name)(*tensors, **sizes)
            close = torch.testing.assert_close
            if dtype in (torch.bfloat16, torch.float16) and wanted.numel():
                # The products that make an element are rounded, as the library's result is: to parts of what they are.
                size = 2 * float(wanted.abs().max())
                close(found, wanted, rtol=0, atol=size * torch.finfo(dtype).eps)
            else:
                close(found, wanted)
            count[x.ndim - dims] += 1
    assert min(count[1], count[2]) > 50, "without a batch and with one"


def test_gradient_of_a_bias():
    """In training it is 0, not the rounding errors of a sum that cancels; in evaluation it is the sum."""
    x, weight = torch.randn(3, 4, 5, 5), torch.randn(4, 3, 4, 4)
    for training in (True, False):
        bias = torch.randn(3, requires_grad=True)
        statistics = torch.randn(3), torch.rand(3) + 0.5
        y = conv_transpose2d_bn_act(x, weight, bias, *statistics, training=training, act=None, impl="native")
        (found,) = torch.autograd.grad(y.sum(), bias)
        if training:
            assert not found.any()
        else:
            torch.testing.assert_close(found, y[0, 0].numel() * 3 / (statistics[1] + 1e-5).sqrt())


def test_evaluation_without_gradients_is_the_same():
    """There the bias is taken off the mean."""
    net = modules(2, "evaluation", "tanh", True, kernel_size=3)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        names, options = arguments(net)
        parameters = {names[name]: p for name, p in net.named_parameters()}
        y = conv_transpose2d_bn_act(x, **parameters, **options, act="tanh", impl="native")
        torch.testing.assert_close(y, net(x), rtol=1e-12, atol=1e-12)


# -- chains -----------------------------------------------------------------------------------------------------------------

UP = {"stride": 2, "padding": 1}
LAYERS = {
    "normalised": [UP | {"training": True}, UP | {"training": True, "act": "leaky_relu"}, UP | {"training": True, "act": "silu"}],
    "mixed": [
        UP | {"training": True}, UP | {"act": "tanh"}, UP | {"statistics": True, "act": "silu"},
        UP | {"training": True, "statistics": True, "momentum": None}, {"act": None},
    ],
    "evaluation": [UP | {"statistics": True}, UP | {"statistics": True, "act": "elu"}],
    "one": [UP | {"training": True, "statistics": True}],
}  # fmt: skip


def links_of(kind, dtype=torch.float64):
    """Parameters by name, and a function from them to links with statistics of their own."""
    torch.manual_seed(7)
    tensors, buffers = {}, []
    for i, layer in enumerate(LAYERS[kind]):
        tensors |= {f"weight{i}": torch.randn(3, 3, 4, 4), f"bias{i}": torch.randn(3)}
        if layer.get("training") or layer.get("statistics"):
            tensors |= {f"bn_weight{i}": torch.rand(3) + 0.5, f"bn_bias{i}": torch.randn(3)}
        kept = (torch.randn(3), torch.rand(3) + 0.5, torch.tensor(2)) if layer.get("statistics") else (None,) * 3
        buffers.append(dict(zip(STATISTICS, kept, strict=True)))

    def build(parameters, buffers):
        for i, layer in enumerate(LAYERS[kind]):
            own = {name.removesuffix(str(i)): t for name, t in parameters.items() if name.endswith(str(i))}
            yield ConvTransposeLink(**own, **buffers[i], **{k: v for k, v in layer.items() if k != "statistics"})

    def fresh(dtype=dtype):
        copy = lambda t: t if t is None else t.clone() if t.dtype == torch.int64 else t.to(dtype, copy=True)
        return [{name: copy(t) for name, t in layer.items()} for layer in buffers]

    return {n: t.to(dtype) for n, t in tensors.items()}, build, fresh


def one_by_one(x, links, impl="native"):
    for link in links:
        x = conv_transpose2d_bn_act(x, **link._asdict(), impl=impl)
    return x


@pytest.fixture(params=["one slice", "slices"])
def sliced(request, monkeypatch):
    """How many parts a chain went through."""
    parts = []
    if request.param == "slices":
        monkeypatch.setattr(chains, "_SLICE", 512)
        monkeypatch.setattr(chains, "_WEIGHTS", 0)
    slices = chains._slices

    def counted(*args):
        found = list(slices(*args))
        parts.append(len(found))
        return found

    monkeypatch.setattr(chains, "_slices", counted)
    yield request.param
    assert not parts or (max(parts) > 1) == (request.param == "slices"), parts


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "last"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_chain_is_its_layers(kind, layout, sliced):
    parameters, build, fresh = links_of(kind)
    x = torch.randn(4, 3, 2, 3, dtype=torch.float64).to(memory_format=layout)
    mine, theirs = fresh(), fresh()
    tensors = {"x": x, **parameters}
    found = derivatives(lambda x, **p: conv_transpose_chain(x, list(build(p, mine)), impl="native"), tensors, {})
    wanted = derivatives(lambda x, **p: one_by_one(x, build(p, theirs)), tensors, {})
    check(found, wanted, 1e-10)
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    plain = one_by_one(x, build(parameters, fresh()), "reference")
    y = conv_transpose_chain(x, list(build(parameters, fresh())), impl="native")
    assert y.stride() == plain.stride(), "the layout was not kept"
    torch.testing.assert_close(y, plain)


@pytest.mark.parametrize("kind", ["normalised", "mixed"])
def test_chains_under_autocast(kind, sliced):
    parameters, build, fresh = links_of(kind, torch.float32)
    tensors = {"x": torch.randn(4, 3, 2, 3), **parameters}

    def under(fn):
        def call(x, **p):
            with torch.autocast("cpu", torch.bfloat16):
                return fn(x, list(build(p, fresh(x.dtype))))

        return call

    chain = under(lambda x, links: conv_transpose_chain(x, links, impl="native"))
    assert chain(**tensors).dtype == torch.bfloat16
    plain = under(lambda x, links: one_by_one(x, links, "reference"))
    double = {name: t.double() for name, t in tensors.items()}
    truth, mine, theirs = (derivatives(*how, {}, 1) for how in ((plain, double), (chain, tensors), (plain, tensors)))
    pooled = []
    for name, value in truth.items():
        ours, eager = (relative(found[name], value) for found in (mine, theirs))
        if value.numel() > 10:
            assert ours <= 2 * eager, f"{name}: {ours} instead of {eager}"
        elif value.abs().max() > 1e-9:
            pooled.append((ours, eager))
    # Three rounded numbers may happen to be right.
    ours, eager = (sum(errors) for errors in zip(*pooled, strict=True))
    assert ours <= 2 * eager, f"parameters of channels: {ours} instead of {eager}"


def test_a_chain_of_an_empty_batch_or_none():
    parameters, build, fresh = links_of("mixed")
    for shape in ((0, 3, 2, 3), (3, 2, 3)):
        tensors = {"x": torch.randn(shape, dtype=torch.float64), **parameters}
        found = derivatives(lambda x, **p: conv_transpose_chain(x, list(build(p, fresh())), impl="native"), tensors, {})
        wanted = derivatives(lambda x, **p: one_by_one(x, build(p, fresh())), tensors, {})
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("only", ["x", "weight0", "bn_bias0", "weight1"])
def test_a_chain_with_one_gradient(only, sliced):
    parameters, build, fresh = links_of("normalised")
    tensors = {"x": torch.randn(4, 3, 2, 3, dtype=torch.float64), **parameters}
    grads = []
    for fn in (conv_transpose_chain, one_by_one):
        leaves = {n: t.clone().requires_grad_(n == only) for n, t in tensors.items()}
        y = fn(leaves["x"], list(build(leaves, fresh())), impl="native")
        grads.append(torch.autograd.grad(y.square().sum(), leaves[only])[0])
    torch.testing.assert_close(*grads)


def test_backward_of_a_chain_twice_gives_the_same_bits(sliced):
    parameters, build, fresh = links_of("normalised", torch.float32)
    leaves = {n: t.requires_grad_() for n, t in parameters.items()}
    y = conv_transpose_chain(torch.randn(4, 3, 2, 3), list(build(leaves, fresh())), impl="native")
    twice = [torch.autograd.grad(y.sum(), list(leaves.values()), retain_graph=True) for _ in range(2)]
    for a, b in zip(*twice, strict=True):
        assert_same_bits(a, b, "second backward")


def test_a_chain_names_itself():
    weight = torch.randn(3, 3, 4, 4)
    with pytest.raises(ValueError, match=r"conv_transpose_chain: links got none, wants"):
        conv_transpose_chain(torch.randn(2, 3, 4, 4), [])
    with pytest.raises(ValueError, match=r"conv_transpose_chain: weight got 3 input channels, wants 2"):
        conv_transpose_chain(torch.randn(2, 2, 4, 4), [ConvTransposeLink(weight)])
    with pytest.raises(RuntimeError, match=r"impl='reference' cannot run with process_group"):
        conv_transpose_chain(
            torch.randn(2, 3, 4, 4), [ConvTransposeLink(weight, training=True, process_group="a group")], impl="reference"
        )


def kept_bytes(fn, parameters):
    """Bytes that autograd keeps for backward, parameters excepted."""
    own, seen = {p.untyped_storage().data_ptr() for p in parameters}, {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t  # held, so that no address comes twice
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = fn()
    assert y.requires_grad
    return sum(t.untyped_storage().nbytes() for at, t in seen.items() if at not in own)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_chain_keeps_one_tensor_a_layer(inplace):
    """DCGAN's generator of 64 x 64, of width 16."""
    net = []
    for channels, out, how in ((16, 128, {}), (128, 64, UP), (64, 32, UP), (32, 16, UP)):
        net += [nn.ConvTranspose2d(channels, out, 4, bias=False, **how), nn.BatchNorm2d(out), nn.ReLU(inplace)]
    net = nn.Sequential(*net, nn.ConvTranspose2d(16, 3, 4, bias=False, **UP), nn.Tanh())
    links = [
        ConvTransposeLink(
            conv.weight, bn_weight=bn.weight, bn_bias=bn.bias, training=True, stride=conv.stride, padding=conv.padding
        )
        for conv, bn in zip(net[0:-2:3], net[1:-2:3], strict=True)
    ]
    links.append(ConvTransposeLink(net[-2].weight, act="tanh", **UP))
    z, parameters = torch.randn(8, 16, 1, 1), list(net.parameters())
    chain = kept_bytes(lambda: conv_transpose_chain(z, links, impl="native"), parameters)
    eager = kept_bytes(lambda: net(z), parameters)
    assert chain <= 0.6 * eager, f"{chain} bytes instead of {eager}"
    torch.testing.assert_close(conv_transpose_chain(z, links, impl="native"), net(z), rtol=1e-4, atol=1e-5)


def test_ranks_are_as_one():
    ranks.run(ranks.transposed)
