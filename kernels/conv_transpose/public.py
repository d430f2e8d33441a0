"""The public functions and their rows for tests and benchmarks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from gancore.kernels import _activations, _dispatch, _layout
from gancore.kernels._conv.ahead import ahead
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Bench, Sample, Spec
from gancore.kernels.batch_norm_act.public import across_ranks
from gancore.kernels.conv_transpose import layer as layers
from gancore.kernels.conv_transpose.layer import ConvTransposeLink, Layer

_DOC = """act(batch_norm(conv_transpose{dims}d(x, weight, bias))), twice differentiable in x and all parameters.

    x: (N, C, {sizes}) or (C, {sizes}), any layout, channels_last the fastest; float32, bfloat16, float16 or float64.
    weight: (C, K / groups, {kernel}). bias, running_mean, running_var, bn_weight, bn_bias: (K,). stride, padding, output_padding,
    groups, dilation: as of torch.nn.functional.conv_transpose{dims}d. Running statistics are updated in place as nn.BatchNorm
    does (unbiased variance; num_batches_tracked is counted where given; momentum None is the cumulative average, which needs it).
    With training False and no running statistics there is no normalisation, and bn_weight and bn_bias must be None. act: "linear"
    or None, "relu", "leaky_relu" (with `slope`), "elu", "silu", "tanh", "sigmoid", "softplus". process_group: a ProcessGroup or
    its name; statistics are then those of all its ranks, as nn.SyncBatchNorm's, and the second derivative is exact too.

    Returns (N, K, ...) in x's memory format. Under autocast x, weight and bias are cast and the normalisation stays in float32;
    else the type is what x and weight promote to. A channel's inner values are float32 (float64 for float64).

    impl: "auto" takes the body that was measured fastest; "triton" (no float64), "native" and "reference" are used or refused.
    Third derivatives are left to "reference".

    Raises ValueError for what does not fit, one value a channel in training among it; TypeError for a wrong type; RuntimeError
    where an explicit impl cannot run. Dumoulin and Visin 2016, arXiv:1603.07285, chapter 4; Ioffe and Szegedy 2015,
    arXiv:1502.03167.
    """


def body_of(layer: Layer, impl: str, x: Tensor) -> str:
    """The body that runs a layer of x."""
    spec = SPECS[layer.dims - 1]
    if layer.norm is not None and layer.norm.group:
        return across_ranks(spec, impl, x)
    return _dispatch.choose(spec, impl, x, lambda: layers.shape_class(layer, x))


def _call(op: str, x: Tensor, link: ConvTransposeLink, impl: str) -> Tensor:
    batch, layer = layers.checked(op, x, link)
    body = body_of(layer, impl, batch)
    y = layers.reference(batch, layer) if body == "reference" else layers.run(batch, layer, body)
    y = y.contiguous(memory_format=_layout.format_of(batch)) if body == "triton" else y
    return y if x.ndim == batch.ndim else y[0]


def _operator(dims: int) -> Callable[..., Tensor]:
    name = f"conv_transpose{dims}d_bn_act"

    def operator(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, running_mean: Tensor | None = None,
        running_var: Tensor | None = None, bn_weight: Tensor | None = None, bn_bias: Tensor | None = None, *,
        num_batches_tracked: Tensor | None = None, training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5,
        stride: int | tuple[int, ...] = 1, padding: int | tuple[int, ...] = 0, output_padding: int | tuple[int, ...] = 0,
        groups: int = 1, dilation: int | tuple[int, ...] = 1, act: str | None = "relu", slope: float = 0.2,
        process_group: Any = None, impl: str = "auto",
    ) -> Tensor:  # fmt: skip
        link = ConvTransposeLink(
            weight, bias, running_mean, running_var, bn_weight, bn_bias, num_batches_tracked, training, momentum, eps,
            stride, padding, output_padding, groups, dilation, act, slope, process_group,
        )  # fmt: skip
        return _call(name, x, link, impl)

    operator.__name__ = operator.__qualname__ = name
    sizes = ("L", "H, W", "D, H, W")[dims - 1]
    operator.__doc__ = _DOC.format(dims=dims, sizes=sizes, kernel=("L'", "H', W'", "D', H', W'")[dims - 1])
    return ranged(operator)


conv_transpose1d_bn_act = _operator(1)
conv_transpose2d_bn_act = _operator(2)
conv_transpose3d_bn_act = _operator(3)


def _reference(dims: int) -> Callable[..., Tensor]:
    name = f"conv_transpose{dims}d_bn_act"

    def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
        batch, layer = layers.checked(name, x, ConvTransposeLink(weight, bias, **options))
        y = layers.reference(batch, layer)
        return y if x.ndim == batch.ndim else y[0]

    return reference


_KINKS = ("relu", "leaky_relu", "elu")


def _draw(shape: tuple[int, ...], weight: tuple[int, ...], bias: bool = False, norm: bool = False, **options: Any) -> Any:
    """Tensors of which no value of the result lies within reach of a kink of its activation."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        channels = weight[1] * options.get("groups", 1)
        while True:
            random = lambda *size: torch.randn(size, generator=generator, dtype=torch.float64)
            tensors = {"x": random(*shape), "weight": random(*weight)}
            if bias:
                tensors["bias"] = random(channels)
            if norm:
                tensors |= {"bn_weight": random(channels).abs() + 0.5, "bn_bias": random(channels)}
            u = _reference(len(weight) - 2)(**tensors, **{**options, "act": None})
            if options.get("act", "relu") not in _KINKS or float(u.abs().min()) > 0.03:
                return tensors

    return draw


def _sample(name: str, shape: tuple[int, ...], weight: tuple[int, ...], **how: Any) -> Sample:
    return Sample(name, _draw(shape, weight, **how), {k: v for k, v in how.items() if k not in ("bias", "norm")})


_STILL = {"running_mean": torch.tensor([0.1, -0.2, 0.3]), "running_var": torch.tensor([1.5, 0.8, 1.2])}
_SAMPLES = {
    1: (
        _sample("relu", (3, 2, 4), (2, 3, 4), norm=True, training=True, stride=2, padding=1),
        _sample("silu, bias, no norm", (2, 3, 5), (3, 3, 3), bias=True, act="silu"),
    ),
    2: (
        _sample("relu", (2, 3, 2, 3), (3, 3, 4, 4), norm=True, training=True, stride=2, padding=1),
        _sample("tanh, bias, no norm", (2, 3, 3, 2), (3, 3, 4, 4), bias=True, stride=2, padding=1, act="tanh"),
        _sample("leaky_relu, bias, training", (4, 3, 1, 1), (3, 3, 2, 3), bias=True, norm=True, training=True, act="leaky_relu"),
        _sample(
            "elu, evaluation", (2, 2, 2, 2), (2, 3, 3, 3), bias=True, norm=True, stride=2, output_padding=1, act="elu", **_STILL,
        ),
        _sample("linear, groups, dilation", (2, 4, 2, 3), (4, 2, 2, 2), bias=True, stride=(1, 2), groups=2, dilation=2, act=None),
        _sample("sigmoid, rows", (2, 3, 2, 2), (3, 3, 1, 5), norm=True, training=True, padding=(0, 1), stride=3, act="sigmoid"),
    ),
    3: (
        _sample("relu", (2, 2, 2, 1, 2), (2, 3, 3, 2, 3), norm=True, training=True, stride=(2, 1, 1), padding=(1, 0, 1)),
        _sample("tanh, bias", (1, 2, 2, 2, 2), (2, 3, 2, 2, 2), bias=True, act="tanh"),
    ),
}  # fmt: skip


def _bytes(x: Tensor, weight: Tensor, **options: Any) -> int:
    """x, weight and the raw result once; the normalised one read and written."""
    layer = layers.checked(layers.CHAIN, x, ConvTransposeLink(weight, **{k: v for k, v in options.items() if k != "impl"}))[1]
    result = torch.Size(layer.shape(x)).numel() * x.element_size()
    return x.nbytes + weight.nbytes + result * (3 if layer.norm is not None and layer.norm.training else 1)


def _bad(dims: int) -> tuple[Bad, ...]:
    return (
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(2)}, ValueError, "x got 1 dimensions"),
        Bad({"weight": torch.zeros(7, 3, *[4] * dims)}, ValueError, "weight got 7 input channels"),
        Bad({"bn_weight": torch.zeros(4)}, ValueError, r"bn_weight got shape \(4,\), wants \(3,\)"),
        Bad({"bias": torch.zeros(4)}, ValueError, r"bias got shape \(4,\), wants \(3,\)"),
        Bad({"stride": 0}, ValueError, "stride got 0"),
        Bad({"padding": "same"}, TypeError, "padding got 'same'"),
        Bad({"output_padding": 2}, ValueError, "output_padding got 2"),
        Bad({"groups": 5}, ValueError, "groups got 5"),
        Bad({"padding": 9}, ValueError, "x got sizes"),
        Bad({"training": False}, ValueError, "bn_weight got a tensor, wants None"),
        Bad({"act": "relu6"}, ValueError, "act got 'relu6'"),
    )


# Images, channels in and out, side: a generator's first layer, those that follow, and its last; small ones too. Each is of one
# class in all types.
_LAYERS = (
    (4, 16, 32, 1), (16, 32, 64, 1), (64, 100, 512, 1), (16, 512, 256, 4), (64, 1024, 512, 4),
    (4, 16, 8, 4), (16, 64, 32, 4), (16, 256, 128, 8), (64, 256, 128, 8), (64, 128, 64, 16),
    (4, 8, 3, 8), (64, 32, 3, 8), (16, 64, 3, 32), (64, 64, 3, 64),
)  # fmt: skip


def _layer(n: int, inputs: int, outputs: int, side: int) -> Bench:
    few = outputs == 3
    options: dict[str, Any] = {"act": "tanh"} if few else {"act": "relu", "training": True}
    options |= {"stride": 1, "padding": 0} if side == 1 else {"stride": 2, "padding": 1}

    def draw(generator: Generator) -> dict[str, Tensor]:
        x = torch.randn(n, inputs, side, side, generator=generator)
        weight = torch.randn(inputs, outputs, 4, 4, generator=generator) / 50
        norm = {} if few else {"bn_weight": torch.ones(outputs), "bn_bias": torch.zeros(outputs)}
        return {"x": x.to(memory_format=torch.channels_last), "weight": weight.to(memory_format=torch.channels_last), **norm}

    one = torch.empty(())
    link = ConvTransposeLink(one.expand(inputs, outputs, 4, 4), **options)
    x, layer = layers.checked(layers.CHAIN, one.expand(n, inputs, side, side), link)
    return Bench(layers.shape_class(layer, x), draw, options)


def _bench(dims: int) -> tuple[Bench, ...]:
    rows = [_layer(*sizes) for sizes in _LAYERS] if dims == 2 else []
    return tuple({row.shape_class: row for row in rows}.values())


SPECS = tuple(
    Spec(
        name=f"conv_transpose{dims}d_bn_act",
        fn=(conv_transpose1d_bn_act, conv_transpose2d_bn_act, conv_transpose3d_bn_act)[dims - 1],
        reference=_reference(dims),
        samples=_SAMPLES[dims],
        dtypes={"triton": (torch.float32, *HALF), "native": (torch.float32, torch.float64, *HALF)},
        neighbour=_activations.neighbour,
        bytes_moved=_bytes,
        weight_op="gancore::conv_weight_gradient",
        library=True,
        mixes=True,
        on_cpu="native",
        bad=_bad(dims),
        bench=_bench(dims),
        ahead=ahead,
    )
    for dims in (1, 2, 3)
)
