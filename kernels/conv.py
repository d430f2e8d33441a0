"""Convolution, bias and activation, twice differentiable: the critic's layer.

    y = clamp(gain * act(conv(x, w) + b), -clamp, clamp)

On a GPU the convolution is the adjoint of `_conv`'s transposed one, on a CPU the library's; bias, activation, gain and clamp are
one pass of `bias_act`, which states their derivatives. Data and weight gradient are separate: a penalty on the gradient by the
input forms no weight gradient on its way.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gancore.kernels import _activations, _arguments, _conv, _dispatch, _layout
from gancore.kernels._conv import Geometry, products
from gancore.kernels._conv.ahead import ahead
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.bias_act import bias_act
from gancore.kernels.bias_act import reference as act_reference

__all__ = ["conv1d_bias_act", "conv2d_bias_act", "conv3d_bias_act"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

_DOC = """clamp(gain * act(conv{dims}d(x, weight, bias)), -clamp, clamp), twice differentiable in x, weight and bias.

    x: (N, C, {sizes}) or (C, {sizes}), any layout, channels_last the fastest; float32, bfloat16, float16 or float64.
    weight: (K, C / groups, {kernel}). bias: (K,). stride, padding (a number, or one a dimension), dilation, groups: as of
    torch.nn.functional.conv{dims}d. act: "linear" or None, "relu", "leaky_relu" (with `slope`), "elu", "silu", "tanh", "sigmoid",
    "softplus". gain: a factor, by default 1. clamp: a bound >= 0 on the magnitude of the result, which has zero derivative
    beyond it.

    Returns (N, K, ...) in x's memory format. Under autocast x, weight and bias are cast; else the type is what x and weight
    promote to.

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.
    Third derivatives of smooth activations are left to "reference".

    Raises ValueError for what does not fit, TypeError for a wrong type, RuntimeError where an explicit impl cannot run.
    """


class _Convolution(NamedTuple):
    """A convolution whose arguments fit; x has a batch."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the result's images."""
        return self.geometry.small(self.x.shape[2:], self.weight.shape[2:])

    @property
    def numel(self) -> int:
        """Of the result."""
        return math.prod(self.sizes) * len(self.x) * len(self.weight)

    @property
    def way(self) -> str:
        """What on a CPU is worth operators of their own: the weight's gradient ("heavy") or the input's ("few"), else "images"."""
        if products.heavy(self.weight, self.geometry, len(self.x), self.sizes):
            return "heavy"
        return "few" if products.few(self.weight, self.geometry) else "images"

    @property
    def derived(self) -> bool:
        """Whether a derivative may be asked for."""
        given = (self.x, self.weight, self.bias)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)

    def run(self) -> Tensor:
        """By the library, which adds a bias for nothing."""
        g = self.geometry
        return _CONVOLUTIONS[self.weight.ndim - 2](self.x, self.weight, self.bias, g.stride, g.padding, g.dilation, g.groups)


def _checked(
    op: str, x: Any, weight: Any, bias: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> _Convolution:
    dims = _arguments.dims_of(op)
    x, weight, bias = _arguments.tensors(op, dims, x, weight, bias)
    batch = x if x.ndim == dims + 2 else x[None]
    groups = _arguments.groups(op, groups, x=batch.shape[1], weight=len(weight))
    if weight.shape[1] * groups != batch.shape[1]:
        wanted = f"{batch.shape[1] // groups}, those of x in {groups} groups"
        raise ValueError(f"{op}: weight got {weight.shape[1]} input channels, wants {wanted}")
    _arguments.per_channel(op, "bias", bias, len(weight))
    steps = _arguments.sizes(op, "stride", stride, dims, 1), _arguments.sizes(op, "padding", padding, dims, 0)
    geometry = Geometry(*steps, (0,) * dims, _arguments.sizes(op, "dilation", dilation, dims, 1), groups)
    found = _Convolution(batch, weight, bias, geometry)
    if min(found.sizes) < 1:
        raise ValueError(f"{op}: x got sizes {tuple(batch.shape[2:])}, wants at least those of the kernel less the padding")
    return found


def _operator(dims: int) -> Callable[..., Tensor]:
    name = f"conv{dims}d_bias_act"

    def operator(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0, dilation: int | tuple[int, ...] = 1, groups: int = 1, act: str | None = "linear",
        slope: float = 0.2, gain: float | None = None, clamp: float | None = None, impl: str = "auto",
    ) -> Tensor:  # fmt: skip
        conv = _checked(name, x, weight, bias, stride, padding, dilation, groups)
        after = (*_arguments.activation(name, act, slope), *_arguments.range_of(name, gain, clamp))
        # On a CPU it is derivatives that kernels gain by.
        forward = impl == "auto" and conv.x.device.type == "cpu" and not conv.derived
        body = "reference" if forward else _dispatch.choose(SPECS[dims - 1], impl, conv.x, lambda: _shape_class(conv))
        if body == "reference":
            y = act_reference(conv.run(), None, 1, *after)
        elif body == "triton":
            y = bias_act(_conv.correlate(conv.x, conv.weight, conv.geometry, conv.sizes), conv.bias, 1, *after, impl=body)
            y = y.contiguous(memory_format=_layout.format_of(conv.x))
        elif conv.derived and conv.way != "images":
            y = bias_act(_conv.correlate(conv.x, conv.weight, conv.geometry, conv.sizes, body), conv.bias, 1, *after, impl=body)
            y = y.contiguous(memory_format=_layout.format_of(conv.x))
        else:
            y = bias_act(conv.run(), None, 1, *after, impl=body)
        return y if x.ndim == y.ndim else y[0]

    operator.__name__ = operator.__qualname__ = name
    kernel, sizes = (("L'", "L"), ("H', W'", "H, W"), ("D', H', W'", "D, H, W"))[dims - 1]
    operator.__doc__ = _DOC.format(dims=dims, sizes=sizes, kernel=kernel)
    return ranged(operator)


conv1d_bias_act = _operator(1)
conv2d_bias_act = _operator(2)
conv3d_bias_act = _operator(3)


def _shape_class(conv: _Convolution) -> str:
    return f"{conv.way}/{_dispatch.size_class(conv.numel)}"


def _reference(dims: int) -> Callable[..., Tensor]:
    def reference(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *, act: str | None = "linear", slope: float = 0.2,
        gain: float | None = None, clamp: float | None = None, **where: Any,
    ) -> Tensor:  # fmt: skip
        y = act_reference(_checked(f"conv{dims}d_bias_act", x, weight, bias, **where).run(), None, 1, act, slope, gain, clamp)
        return y if x.ndim == y.ndim else y[0]

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


def _bytes(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> int:
    where = {k: v for k, v in options.items() if k in ("stride", "padding", "dilation", "groups")}
    conv = _checked(f"conv{weight.ndim - 2}d_bias_act", x, weight, bias, **where)
    return x.nbytes + weight.nbytes + conv.numel * x.element_size()


def _layer(n: int, inputs: int, outputs: int, side: int) -> Bench:
    options = {"stride": 2, "padding": 1, "act": "leaky_relu"}

    def draw(generator: Generator) -> dict[str, Tensor]:
        x = torch.randn(n, inputs, side, side, generator=generator).to(memory_format=torch.channels_last)
        weight = torch.randn(outputs, inputs, 4, 4, generator=generator).to(memory_format=torch.channels_last) / 50
        return {"x": x, "weight": weight, "bias": torch.zeros(outputs)}

    one = torch.empty(())
    sizes = one.expand(n, inputs, side, side), one.expand(outputs, inputs, 4, 4)
    conv = _checked("conv2d_bias_act", *sizes, None, options["stride"], options["padding"])
    return Bench(_shape_class(conv), draw, options)


# Images, channels in and out, side: of small critics and of large ones. Each is of one class in all types.
_LAYERS = (
    (4, 3, 8, 16), (16, 3, 32, 16), (16, 64, 128, 16), (64, 64, 128, 16), (64, 64, 128, 32), (64, 3, 64, 64), (16, 512, 1024, 8),
)  # fmt: skip


def _bench(dims: int) -> tuple[Bench, ...]:
    rows = [_layer(*sizes) for sizes in _LAYERS] if dims == 2 else []
    return tuple({row.shape_class: row for row in rows}.values())


SPECS = tuple(
    Spec(
        name=f"conv{dims}d_bias_act",
        fn=(conv1d_bias_act, conv2d_bias_act, conv3d_bias_act)[dims - 1],
        reference=_reference(dims),
        samples=_SAMPLES[dims],
        dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
        neighbour=_activations.neighbour,
        bytes_moved=_bytes,
        weight_op="gancore::conv_weight_gradient",
        library=True,
        on_cpu="native",
        derivatives=True,
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
        ahead=ahead,
    )
    for dims in (1, 2, 3)
)
