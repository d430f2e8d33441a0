"""The public function, its reference and its rows for tests and benchmarks."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gancore.kernels import _activations, _arguments, _check, _dispatch, _layout
from gancore.kernels._activations import ACTS
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.batch_norm_act import across, device, operators


class Norm(NamedTuple):
    """A normalisation: the arguments of batch_norm_act. group: a process group as it was given; once checked its name, or ""."""

    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    num_batches_tracked: Tensor | None = None
    training: bool = False
    momentum: float | None = 0.1
    eps: float = 1e-5
    group: Any = ""

    def update(self, mean: Tensor, var: Tensor, count: int) -> None:
        """What nn.BatchNorm does to its running statistics, from a batch's mean and biased variance; count: a rank's values."""
        if not self.training or (self.running_mean is None and self.num_batches_tracked is None):
            return
        total: Tensor | int = across.add(mean.new_tensor([count]), self.group) if self.group else count
        self.follow(mean, var * (total / (total - 1)) if self.group or count > 1 else var, count)

    def follow(self, mean: Tensor | None, unbiased: Tensor | None, count: int) -> None:
        """The same, from the unbiased variance."""
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is None or (count == 0 and not self.group):
                return
            share: Any = self.momentum
            if share is None:
                share = 1.0 / self.num_batches_tracked.double()  # type: ignore[union-attr]
            for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                if running is not None and new is not None:
                    new = new if new.dtype == running.dtype else new.to(running.dtype)
                    running.lerp_(new, share if isinstance(share, float) else share.to(running.dtype))


def checked(op: str, channels: int, like: Tensor, norm: Norm, names: tuple[str, str] = ("weight", "bias")) -> Norm:
    """The normalisation of `channels` on the device of `like`. Raises ValueError and TypeError in the name of `op`; names: what it
    calls weight and bias."""
    given = {"running_mean": norm.running_mean, "running_var": norm.running_var, names[0]: norm.weight, names[1]: norm.bias}
    for name, t in given.items():
        if t is None:
            continue
        _check.floating(op, name, t, like.device)
        _arguments.per_channel(op, name, t, channels)
    if norm.num_batches_tracked is not None and not isinstance(norm.num_batches_tracked, Tensor):
        raise TypeError(f"{op}: num_batches_tracked got {type(norm.num_batches_tracked).__name__}, wants a tensor")
    if (norm.running_mean is None) != (norm.running_var is None):
        raise ValueError(f"{op}: running_mean and running_var go together: got one of them, wants both or none")
    if not norm.training and norm.running_mean is None:
        for name in names:
            if given[name] is not None:
                reason = "without training or running statistics nothing is normalised"
                raise ValueError(f"{op}: {name} got a tensor, wants None: {reason}")
    momentum = norm.momentum
    if momentum is not None:
        momentum = _check.number(op, "momentum", momentum)
    elif norm.training and norm.running_mean is not None and norm.num_batches_tracked is None:
        raise ValueError(f"{op}: momentum got None, the cumulative average, which wants num_batches_tracked")
    eps, group = _check.number(op, "eps", norm.eps, 0.0), across.name_of(op, norm.group)
    return norm._replace(training=bool(norm.training), momentum=momentum, eps=eps, group=group)


def enough(op: str, shape: tuple[int, ...], norm: Norm) -> None:
    """Raises ValueError where a batch has no variance: one value a channel."""
    if norm.training and not norm.group and torch.Size((shape[0], *shape[2:])).numel() == 1:
        raise ValueError(f"{op}: wants more than one value a channel when training, got a batch of {tuple(shape)}")


def refuse_group(op: str, group: object) -> None:
    """Raises RuntimeError where the reference is asked for across ranks."""
    if group:
        raise RuntimeError(f"{op}: impl='reference' cannot run with process_group: PyTorch has no second derivative across ranks")


def reference(x: Tensor, *, act: str | None = "relu", slope: float = 0.2, process_group: Any = None, **options: Any) -> Tensor:
    """The same in plain PyTorch: any order of derivative, any device."""
    refuse_group("batch_norm_act", process_group)
    norm = Norm(**options)
    enough("batch_norm_act", tuple(x.shape), norm)
    return plain(x, norm, act or "linear", slope)


def plain(x: Tensor, norm: Norm, act: str, slope: float, missing: Tensor | None = None) -> Tensor:
    """The steps one after another, by the library. missing: see `normalised`."""
    y = _by_library(x, norm, missing) if norm.training or norm.running_mean is not None else x
    y = ACTS[act].reference(y, slope)
    return y.clone() if y is x else y


def _by_library(x: Tensor, norm: Norm, missing: Tensor | None) -> Tensor:
    kind = operators.wide(x)
    mean, var, weight, bias = (None if t is None else t.to(kind) for t in norm[:4])
    if norm.training and mean is not None:
        # The batch's own statistics come with the result: what it makes of zeros with a momentum of 1.
        mean, var = mean.new_zeros(mean.shape), mean.new_zeros(mean.shape)
    if not x.numel():  # which the library refuses
        y = x.clone()
        y = y if weight is None else y * _layout.along(weight.to(x.dtype), x.ndim, 1)
        y = y if bias is None else y + _layout.along(bias.to(x.dtype), x.ndim, 1)
    else:
        y = F.batch_norm(x, mean, var, weight, bias, norm.training, 1.0, norm.eps)
    if norm.training:
        norm.follow(mean if mean is None or missing is None else mean + missing, var, x.numel() // max(x.shape[1], 1))
    return y


def normalised(
    x: Tensor, norm: Norm, act: str, slope: float, impl: str, statistics: tuple[Tensor, Tensor] | None = None,
    missing: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """act of the normalised x by the kernels. statistics: the mean and biased variance of the batch, where they are known; missing:
    what x lacks, a number a channel, of what the running statistics are of."""
    if norm.training:
        statistics = statistics or operators.moments(x.detach(), norm.group, impl)
    mean, var = taken(x, norm, statistics, missing)
    return operators.value(x, norm.weight, norm.bias, mean, var, *form_of(norm, act, slope, impl))


def form_of(norm: Norm, act: str, slope: float, impl: str) -> operators.Form:
    """What the operators take."""
    return operators.Form(norm.training, norm.eps, act, slope, norm.group, impl)


def taken(x: Tensor, norm: Norm, statistics: tuple[Tensor, Tensor] | None, missing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance that x is normalised by; in training those of the batch, and the running ones are updated."""
    if statistics is not None:
        mean, var = statistics
        norm.update(mean if missing is None else mean + missing, var, x.numel() // max(x.shape[1], 1))
        return mean, var
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.to(operators.wide(x)), norm.running_var.to(operators.wide(x))


@ranged
def batch_norm_act(
    x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, *, num_batches_tracked: Tensor | None = None, training: bool = False, momentum: float | None = 0.1,
    eps: float = 1e-5, act: str | None = "relu", slope: float = 0.2, process_group: Any = None, impl: str = "auto",
) -> Tensor:  # fmt: skip
    """act(batch_norm(x)), twice differentiable in x, weight and bias.

    x: (N, C, *), any layout; float32, bfloat16, float16 or float64. running_mean, running_var, weight, bias: (C,), of any floating
    type. Running statistics are updated in place as nn.BatchNorm does (unbiased variance; num_batches_tracked is counted where
    given; momentum None is the cumulative average, which needs it). With training False and no running statistics nothing is
    normalised. act: "linear" or None, "relu", "leaky_relu" (with `slope`), "elu", "silu", "tanh", "sigmoid", "softplus".
    process_group: a ProcessGroup or its name; statistics are then those of all its ranks, as nn.SyncBatchNorm's, and the second
    derivative is exact too.

    Returns a new tensor of x's shape, type and, where x is dense, layout. Inner values are float32 (float64 for float64).

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.
    Third derivatives are left to "reference".

    Raises ValueError for what does not fit, one value a channel in training among it; TypeError for a wrong type; RuntimeError
    where an explicit impl cannot run. Ioffe and Szegedy 2015, arXiv:1502.03167.
    """
    op = "batch_norm_act"
    _check.floating(op, "x", x)
    if x.ndim < 2:
        raise ValueError(f"{op}: x got {x.ndim} dimensions, wants at least 2: (N, C, ...)")
    act, slope = _arguments.activation(op, act, slope)
    given = Norm(running_mean, running_var, weight, bias, num_batches_tracked, training, momentum, eps, process_group)
    norm = checked(op, x.shape[1], x, given)
    enough(op, tuple(x.shape), norm)
    body = across_ranks(SPEC, impl, x) if norm.group else _dispatch.choose(SPEC, impl, x, lambda: shape_class(act, x))
    if body == "reference" or (not norm.training and norm.running_mean is None):
        return plain(x, norm, act, slope)
    return normalised(x, norm, act, slope, body)


def across_ranks(spec: Spec, impl: str, x: Tensor) -> str:
    """The body that runs where statistics are of several ranks, which the reference cannot do."""
    refuse_group(spec.name, impl == "reference")
    if impl == "auto":
        impl = "triton" if x.device.type == "cuda" else "native"
    return _dispatch.choose(spec, impl, x, "")


def shape_class(act: str, x: Tensor) -> str:
    """The class of a tensor in the dispatch table: activation, layout and size."""
    last = "last" if x.ndim > 2 and x.shape[1] > 1 and x.stride(1) == 1 else "planes"
    return f"{act}/{last}/{_dispatch.size_class(x.numel())}"


def _draw(*shape: int, kinks: bool = False) -> Callable[[Generator], dict[str, Tensor]]:
    """Of few values with noise, so that no normalised one lies within reach of a kink."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        size = torch.Size(shape).numel()
        levels = (torch.arange(size) % 2 * 2 - 1)[torch.randperm(size, generator=generator)].view(shape)
        x = levels * (1 + 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64))
        weight = torch.rand(shape[1], generator=generator, dtype=torch.float64) + 0.5
        return {"x": x, "weight": weight, "bias": 0.1 * torch.randn(shape[1], generator=generator, dtype=torch.float64)}

    return draw


def _samples() -> tuple[Sample, ...]:
    image, train = _draw(4, 3, 4, 5), {"training": True}
    mean, var = torch.tensor([0.1, -0.2, 0.05]), torch.tensor([1.5, 0.8, 1.1])
    still = {"running_mean": mean, "running_var": var}

    def bare(generator: Generator) -> dict[str, Tensor]:
        return {"x": image(generator)["x"]}

    return (
        Sample("relu", image, {"act": "relu", **train}),
        Sample("tanh, evaluation", image, {"act": "tanh", **still}),
        Sample("silu, long images", _draw(2, 3, 9, 11), {"act": "silu", **train}),
        Sample("leaky_relu, vectors", _draw(9, 5), {"act": "leaky_relu", "slope": 0.1, **train}),
        Sample("linear, evaluation", image, {"act": None, "eps": 0.1, **still}),
        Sample("tanh, no parameters", bare, {"act": "tanh", **train}),
        Sample("elu, evaluation", bare, {"act": "elu", **still}),
        Sample("sigmoid, signals", _draw(3, 3, 7), {"act": "sigmoid", **train}),
        Sample("softplus, volumes", _draw(2, 3, 2, 3, 2), {"act": "softplus", **train}),
    )


def _bytes(x: Tensor, training: bool = False, **options: Any) -> int:
    return (3 if training else 2) * x.nbytes


_SHAPES = ((4, 16, 4, 4), (16, 32, 8, 8), (16, 512, 4, 4), (16, 128, 16, 16), (64, 64, 32, 32))


def _bench() -> tuple[Bench, ...]:
    rows = []
    for act, shape, memory_format in product(_activations.ACTS, _SHAPES, (torch.contiguous_format, torch.channels_last)):
        size = torch.Size(shape).numel()

        def draw(generator: Generator, shape: tuple[int, ...] = shape, kind: Any = memory_format) -> dict[str, Tensor]:
            x = torch.randn(shape, generator=generator).to(memory_format=kind)
            return {"x": x, "weight": torch.ones(shape[1]), "bias": torch.zeros(shape[1])}

        name = f"{act}/{'planes' if memory_format == torch.contiguous_format else 'last'}/{_dispatch.size_class(size)}"
        rows.append(Bench(name, draw, {"act": act, "training": True}))
    return tuple({row.shape_class: row for row in rows}.values())


SPEC = Spec(
    name="batch_norm_act",
    fn=batch_norm_act,
    reference=reference,
    samples=_samples(),
    dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
    neighbour=_activations.neighbour,
    bytes_moved=_bytes,
    mixes=True,
    on_cpu="native",
    bench=_bench(),
    bad=(
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(3)}, ValueError, "x got 1 dimensions"),
        Bad({"x": torch.zeros(1, 3)}, ValueError, "more than one value a channel"),
        Bad({"weight": torch.zeros(4)}, ValueError, r"weight got shape \(4,\), wants \(3,\)"),
        Bad({"bias": torch.zeros(3, device="meta")}, ValueError, "bias got device meta"),
        Bad({"running_mean": torch.zeros(3)}, ValueError, "running_mean and running_var go together"),
        Bad({"training": False}, ValueError, "weight got a tensor, wants None"),
        Bad({"running_mean": torch.zeros(3), "running_var": torch.ones(3), "momentum": None}, ValueError, "num_batches_tracked"),
        Bad({"num_batches_tracked": 0}, TypeError, "num_batches_tracked got int"),
        Bad({"eps": -1.0}, ValueError, "eps got -1.0"),
        Bad({"act": "relu6"}, ValueError, "act got 'relu6'"),
        Bad({"process_group": 3}, TypeError, "process_group got int"),
    ),
    ahead=device.ahead,
)
