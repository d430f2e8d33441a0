"""Convolution, bias and activation, twice differentiable: the critic's layer.

    y = clamp(gain * act(conv(x, w) + b), -clamp, clamp)

On a GPU the convolution is the adjoint of `_conv`'s transposed one, on a CPU the library's; bias, activation, gain and clamp are one
pass of `bias_act`, which states their derivatives. Data and weight gradient are separate: a penalty on the gradient by the input
forms no weight gradient on its way.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gancore.kernels import _arguments, _check, _conv, _dispatch, _layout
from gancore.kernels._activations import ACTS
from gancore.kernels._conv import Geometry
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.bias_act import bias_act
from gancore.kernels.bias_act import reference as act_reference

__all__ = ["conv1d_bias_act", "conv2d_bias_act", "conv3d_bias_act"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

_DOC = """clamp(gain * act(conv{dims}d(x, weight, bias)), -clamp, clamp), twice differentiable in x, weight and bias.

    x: (N, C, {sizes}) or (C, {sizes}), any layout, channels_last the fastest; float32, bfloat16, float16 or float64. weight:
    (K, C / groups, {kernel}). bias: (K,). stride, padding (a number, or one a dimension), dilation, groups: as of
    torch.nn.functional.conv{dims}d. act: "linear" or None, "relu", "leaky_relu" (with `slope`), "elu", "silu", "tanh", "sigmoid",
    "softplus". gain: a factor, by default 1. clamp: a bound >= 0 on the magnitude of the result, which has zero derivative beyond it.

    Returns (N, K, ...) in x's memory format. Under autocast x, weight and bias are cast; else the type is what x and weight promote to.

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused. Third
    derivatives of smooth activations are left to "reference".

    Raises ValueError for what does not fit, TypeError for a wrong type, RuntimeError where an explicit impl cannot run.
    """


def _checked(op: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> tuple[Tensor, ...]:
    dims = _arguments.dims_of(op)
    x, weight, bias = _arguments.tensors(op, dims, x, weight, bias)
    channels = x.shape[-dims - 1]
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or channels % groups or weight.shape[0] % groups:
        raise ValueError(f"{op}: groups got {groups!r}, wants a divisor of the {channels} channels of x and of {weight.shape[0]} results")
    if weight.shape[1] * groups != channels:
        raise ValueError(f"{op}: weight got {weight.shape[1]} input channels, wants {channels // groups}: those of x in {groups} groups")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op}: bias got shape {tuple(bias.shape)}, wants ({len(weight)},), one for each output channel")
    sizes = [_arguments.sizes(op, n, v, dims, k) for n, v, k in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1))]
    geometry = Geometry(sizes[0], sizes[1], (0,) * dims, sizes[2], groups)
    batch = x if x.ndim == dims + 2 else x[None]
    if min(geometry.small(batch.shape[2:], weight.shape[2:])) < 1:
        raise ValueError(f"{op}: x got sizes {tuple(batch.shape[2:])}, wants at least those of the kernel with its padding")
    return batch, weight, bias, geometry  # type: ignore[return-value]


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    convolution = _CONVOLUTIONS[weight.ndim - 2]
    return convolution(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def _operator(dims: int) -> Callable[..., Tensor]:
    name = f"conv{dims}d_bias_act"

    def operator(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0, dilation: int | tuple[int, ...] = 1, groups: int = 1, act: str | None = "linear",
        slope: float = 0.2, gain: float | None = None, clamp: float | None = None, impl: str = "auto",
    ) -> Tensor:  # fmt: skip
        batch, w, b, geometry = _checked(name, x, weight, bias, stride, padding, dilation, groups)
        _check.one_of(name, "act", act or "linear", tuple(ACTS))
        size = torch.Size(geometry.small(batch.shape[2:], w.shape[2:])).numel() * len(batch) * len(w)
        body = _dispatch.choose(SPECS[w.ndim - 3], impl, batch, lambda: f"{act or 'linear'}/{_dispatch.size_class(size)}")
        if body == "reference":
            y = act_reference(_convolved(batch, w, b, geometry), None, 1, act, slope, gain, clamp)
        elif body == "triton":
            y = _conv.correlate(batch, w, geometry, geometry.small(batch.shape[2:], w.shape[2:]))
            y = bias_act(y, b, 1, act, slope, gain, clamp, impl=body).contiguous(memory_format=_layout.format_of(batch))
        else:
            # The library adds a bias for nothing.
            y = bias_act(_convolved(batch, w, b, geometry), None, 1, act, slope, gain, clamp, impl=body)
        return y if x.ndim == batch.ndim else y[0]

    operator.__name__ = operator.__qualname__ = name
    kernel, sizes = (("L'", "L"), ("H', W'", "H, W"), ("D', H', W'", "D, H, W"))[dims - 1]
    operator.__doc__ = _DOC.format(dims=dims, sizes=sizes, kernel=kernel)
    return ranged(operator)


conv1d_bias_act = _operator(1)
conv2d_bias_act = _operator(2)
conv3d_bias_act = _operator(3)


def _reference(dims: int) -> Callable[..., Tensor]:
    name = f"conv{dims}d_bias_act"

    def reference(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
        act: str | None = "linear", slope: float = 0.2, gain: float | None = None, clamp: float | None = None,
    ) -> Tensor:  # fmt: skip
        batch, w, b, geometry = _checked(name, x, weight, bias, stride, padding, dilation, groups)
        y = act_reference(_convolved(batch, w, b, geometry), None, 1, act, slope, gain, clamp)
        return y if x.ndim == batch.ndim else y[0]

    return reference


def _sample(name: str, shape: tuple[int, ...], weight: tuple[int, ...], bias: bool = True, **options: Any) -> Sample:
    def draw(generator: Generator) -> dict[str, Tensor]:
        """No value of the result before its activation lies within reach of a kink."""
        while True:
            sizes = {"x": shape, "weight": weight, **({"bias": weight[:1]} if bias else {})}
            tensors = {n: torch.randn(size, generator=generator, dtype=torch.float64) for n, size in sizes.items()}
            plain = {k: v for k, v in options.items() if k not in ("act", "gain", "clamp", "slope")}
            u = _reference(len(weight) - 2)(**tensors, **plain)
            if options["act"] not in ("leaky_relu", "elu") or float(u.abs().min()) > 0.03:
                return tensors

    return Sample(name, draw, options)


_SAMPLES = {
    1: (_sample("leaky_relu", (3, 2, 9), (3, 2, 4), stride=2, padding=1, act="leaky_relu"),),
    2: (
        _sample("leaky_relu", (2, 3, 6, 4), (3, 3, 4, 4), stride=2, padding=1, act="leaky_relu"),
        _sample("silu, groups, gain", (2, 4, 5, 4), (4, 2, 3, 2), groups=2, act="silu", gain=2**0.5),
        _sample("tanh, dilation, no bias", (2, 3, 6, 5), (3, 3, 2, 3), False, dilation=2, act="tanh"),
    ),
    3: (_sample("elu", (2, 2, 4, 3, 4), (3, 2, 2, 3, 2), stride=(2, 1, 2), act="elu"),),
}


def _neighbour(options: Mapping[str, Any]) -> dict[str, Any]:
    names = list(ACTS)
    return {**options, "act": names[(names.index(options["act"]) + 1) % len(names)]}


def _bytes(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> int:
    names = ("stride", "padding", "dilation", "groups")
    dims = weight.ndim - 2
    _, _, _, geometry = _checked(f"conv{dims}d_bias_act", x, weight, bias, *(options.get(n, d) for n, d in zip(names, (1, 0, 1, 1), strict=True)))
    result = torch.Size(geometry.small(x.shape[2:], weight.shape[2:])).numel() * len(x) * len(weight)
    return x.nbytes + weight.nbytes + result * x.element_size()


def _bench(dims: int) -> tuple[Bench, ...]:
    if dims != 2:
        return ()
    rows = {}
    for n, channels, side in ((16, 128, 16), (16, 64, 32), (64, 64, 32)):

        def draw(generator: Generator, n: int = n, channels: int = channels, side: int = side) -> dict[str, Tensor]:
            x = torch.randn(n, channels, side, side, generator=generator).to(memory_format=torch.channels_last)
            return {"x": x, "weight": torch.randn(2 * channels, channels, 4, 4, generator=generator) / 50, "bias": torch.zeros(2 * channels)}

        name = f"leaky_relu/{_dispatch.size_class(n * channels * side * side // 2)}"
        rows.setdefault(name, Bench(name, draw, {"stride": 2, "padding": 1, "act": "leaky_relu"}))
    return tuple(rows.values())


SPECS = tuple(
    Spec(
        name=f"conv{dims}d_bias_act",
        fn=(conv1d_bias_act, conv2d_bias_act, conv3d_bias_act)[dims - 1],
        reference=_reference(dims),
        samples=_SAMPLES[dims],
        dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
        neighbour=_neighbour,
        bytes_moved=_bytes,
        weight_op="gancore::conv_weight_gradient",
        library=True,
        on_cpu="native",
        bad=(
            Bad({"x": 3.0}, TypeError, "x got float"),
            Bad({"weight": torch.zeros(3, 7, *[3] * dims)}, ValueError, "weight got 7 input channels"),
            Bad({"bias": torch.zeros(4)}, ValueError, r"bias got shape \(4,\), wants \(3,\)"),
            Bad({"stride": 0}, ValueError, "stride got 0"),
            Bad({"groups": 5}, ValueError, "groups got 5"),
            Bad({"dilation": 9}, ValueError, "x got sizes"),
            Bad({"act": "relu6"}, ValueError, "act got 'relu6'"),
        ),
        bench=_bench(dims),
    )
    for dims in (1, 2, 3)
)
