"""What is special to batch_norm_act: running statistics, long images, several ranks. The contract test has the rest."""

import copy

import pytest
import torch
from torch import nn

from gancore.kernels import batch_norm_act
from gancore.kernels.batch_norm_act import operators
from gancore.kernels.batch_norm_act.public import SPEC
from tests.kernels import ranks
from tests.kernels.checks import assert_agrees
from tests.kernels.walk import bound, place

IMPLS = ("native", "triton", "reference")
BATCHES = {1: ((7, 3), (4, 3, 5), (0, 3, 5), (2, 3, 6)), 2: ((4, 3, 5, 2), (0, 3, 5, 2), (3, 3, 1, 2)), 3: ((2, 3, 1, 2, 3),) * 2}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def as_module(bn, x, impl):
    """What the module does, by the operator."""
    buffers = {name: getattr(bn, name) for name in STATISTICS}
    training = bn.training or bn.running_mean is None
    how = {"training": training, "momentum": bn.momentum, "eps": bn.eps, "act": None}
    return batch_norm_act(x, weight=bn.weight, bias=bn.bias, **buffers, **how, impl=impl)


def check_statistics(bn, truth, rtol):
    for name in STATISTICS:
        mine, theirs = getattr(bn, name), getattr(truth, name)
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine.to(theirs.dtype), theirs, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.1, None, 1.0])
@pytest.mark.parametrize("dims", BATCHES)
def test_running_statistics_are_those_of_torch(dims, momentum, dtype, impl):
    device = place(impl)
    if dtype not in SPEC.dtypes.get(impl, (dtype,)):
        pytest.skip("the kernel takes no float64")
    truth = getattr(nn, f"BatchNorm{dims}d")(3, momentum=momentum, device=device, dtype=torch.float64)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    bn = copy.deepcopy(truth).to(kind)
    for step, shape in enumerate(BATCHES[dims]):
        x = (torch.randn(shape, device=device) * 2 + step).to(dtype)
        y, wanted = as_module(bn, x, impl), truth(x.double())
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), wanted, rtol=0, atol=20 * torch.finfo(dtype).eps)
        check_statistics(bn, truth, 1e-13 if kind == torch.float64 else 1e-6)
    assert bn.num_batches_tracked == len(BATCHES[dims])
    before = copy.deepcopy(bn.state_dict())
    y, wanted = as_module(bn.eval(), x, impl), truth.eval()(x.double())
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=20 * torch.finfo(dtype).eps)
    assert all(torch.equal(t, before[name]) for name, t in bn.state_dict().items())


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("options", [{}, {"momentum": None, "affine": False}])
def test_without_running_statistics_batches_are_normalised_always(options, impl):
    device = place(impl)
    bn = nn.BatchNorm2d(3, **options, track_running_stats=False, device=device)
    for mode in (True, False):
        x = torch.randn(4, 3, 2, 5, device=device)
        torch.testing.assert_close(as_module(bn.train(mode), x, impl), bn(x))


@pytest.mark.parametrize("impl", IMPLS)
def test_statistics_without_a_count(impl):
    device = place(impl)
    mean, var = torch.zeros(3, device=device), torch.ones(3, device=device)
    x = torch.randn(4, 3, 5, device=device)
    batch_norm_act(x, mean, var, training=True, momentum=0.3, impl=impl)
    torch.testing.assert_close(mean, 0.3 * x.mean((0, 2)))
    torch.testing.assert_close(var, 0.7 + 0.3 * x.var((0, 2)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("impl", ["native", "triton"])
def test_a_large_mean_cancels_nothing(impl, layout):
    x = (torch.randn(8, 3, 17, 19, device=place(impl)) + 1e3).to(memory_format=layout)
    mean, var = operators.moments(x, "", impl)
    wide = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    assert float((var.double() / wide[0] - 1).abs().max()) < 1e-5
    assert float((mean.double() / wide[1] - 1).abs().max()) < 1e-7


# Rows and planes of csrc/batch_norm_act.cpp: images shorter and longer than a plane, channels of less and more than a row, several
# units a plane, several parts of a sum.
LONG = [
    (3, channels, *image)
    for channels in (1, 3, 300, 1500)
    for image in ((1, 1), (4, 4), (7, 9), (8, 8), (5, 13), (25, 40))
    if channels * image[0] * image[1] < 10**6
] + [(2, 1, 1, 40000), (2, 1500, 25, 40)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "last"])
@pytest.mark.parametrize("shape", LONG, ids=lambda shape: "x".join(map(str, shape)))
def test_images_of_any_length(shape, layout):
    place("native")
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=generator).to(memory_format=layout)
    weight, bias = torch.rand(shape[1], generator=generator) + 0.5, torch.randn(shape[1], generator=generator)
    tensors = {"x": x, "weight": weight, "bias": bias}
    assert_agrees(bound(SPEC, "native"), SPEC.reference, tensors, {"training": True, "act": "tanh"}, 1, f"{shape}")
    mean, var = operators.moments(x, "", "native")
    wanted = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close((var.double(), mean.double()), wanted, rtol=1e-6, atol=1e-6)


def test_ranks_are_as_one():
    place("native")
    ranks.run(ranks.batch_norm)


def test_ranks_have_no_reference():
    x = torch.randn(4, 3)
    with pytest.raises(RuntimeError, match=r"impl='reference' cannot run with process_group"):
        batch_norm_act(x, training=True, process_group="a group", impl="reference")
    with pytest.raises(RuntimeError, match=r"impl='reference' cannot run with process_group"):
        SPEC.reference(x, training=True, process_group="a group")
