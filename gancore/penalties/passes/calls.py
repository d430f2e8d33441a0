"""Rules of layers: convolutions, linear maps, activations, norms. For their form see `rules`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gancore.penalties.passes import arithmetic, shapes, views
from gancore.penalties.passes.norms import GroupNorm, LayerNorm
from gancore.penalties.passes.pointwise import Activation
from gancore.penalties.passes.products import Convolution, Geometry, Linear
from gancore.penalties.passes.record import Recorder

_HALF = (torch.float16, torch.bfloat16)


def narrow(r: Recorder, x: Tensor) -> Tensor:
    """x in the type that autocast gives products."""
    kind = r.device.type
    if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return views.cast(r, x, torch.get_autocast_dtype(kind))
    return x


def convolution(r: Recorder, dims: int, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
          dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
    """conv1d, conv2d, conv3d."""
    kernel = list(weight.shape[2:])
    dilation = views.sizes_of(dilation, dims)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
        input = views.pad(r, input, sides) if any(total) else input
        padding = 0
    geometry = Geometry(views.sizes_of(stride, dims), views.sizes_of(padding, dims), dilation, False, [0] * dims, groups)
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(input.shape[2:], geometry.padding, dilation, kernel, geometry.stride, strict=True)
    ]
    return _convolve(r, input, weight, bias, geometry, (weight.shape[0], *sizes))


def transposed(r: Recorder, dims: int, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
                output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:  # fmt: skip
    """conv_transpose1d, conv_transpose2d, conv_transpose3d."""
    geometry = Geometry(
        views.sizes_of(stride, dims),
        views.sizes_of(padding, dims),
        views.sizes_of(dilation, dims),
        True,
        views.sizes_of(output_padding, dims),
        groups,
    )
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            input.shape[2:],
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            weight.shape[2:],
            geometry.output_padding,
            strict=True,
        )
    ]
    return _convolve(r, input, weight, bias, geometry, (weight.shape[1] * groups, *sizes))


def _convolve(r: Recorder, x: Tensor, weight: Tensor, bias: Any, geometry: Geometry, sizes: tuple[int, ...]) -> Tensor:
    arithmetic.constant(r, weight, bias)
    if x.dim() != weight.dim():
        r.refuse(f"convolves a tensor of shape {tuple(x.shape)}, which has no batch")
    x = narrow(r, x)
    return r.emit(Convolution(weight, bias, x.dtype, geometry), x, sizes=(r.rows, *sizes))


def linear(r: Recorder, input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """F.linear."""
    arithmetic.constant(r, weight, bias)
    if input.dim() < 2 or weight.dim() != 2:
        r.refuse(f"multiplies tensors of shapes {tuple(input.shape)} and {tuple(weight.shape)}")
    x = narrow(r, input)
    return r.emit(Linear(weight, bias, x.dtype), x, sizes=(*x.shape[:-1], len(weight)))


def matmul(r: Recorder, input: Tensor, other: Tensor) -> Tensor:
    """The points' values times a matrix or vector."""
    arithmetic.constant(r, *((other,) if r.index(input) is not None else (input,)))
    if r.index(input) is None or other.dim() not in (1, 2):
        r.refuse("calls matmul of other than the points' values by a matrix")
    if other.dim() == 1:
        y = linear(r, input, other[None])
        return views.reshape(r, torch.squeeze, y, -1)
    return linear(r, input, other.t())


def fused(r: Recorder, dims: int, x: Tensor, weight: Tensor, bias: Any = None, **options: Any) -> Tensor:
    """gancore's convolutions with what follows."""
    options.pop("impl", None)
    after = [options.pop(name, value) for name, value in (("act", None), ("slope", 0.2), ("gain", None), ("clamp", None))]
    return _after(r, convolution(r, dims, x, weight, bias, **options), *after)


def bias_act(r: Recorder, x: Tensor, b: Any = None, dim: int = 1, act: str | None = "linear", slope: float = 0.2,
              gain: float | None = None, clamp: float | None = None, *, impl: str = "auto") -> Tensor:  # fmt: skip
    """gancore's bias_act."""
    if b is not None:
        x = arithmetic.add(r, x, b.view([-1 if d == dim % x.dim() else 1 for d in range(x.dim())]))
    return _after(r, x, act, slope, gain, clamp)


def _after(r: Recorder, y: Tensor, act: str | None, slope: float, gain: float | None, clamp: float | None) -> Tensor:
    if clamp is not None:
        r.refuse("clamps its result")
    if act not in (None, "linear"):
        y = _act(r, str(act), y, {"leaky_relu": slope, "elu": 1.0}.get(str(act), 0.0))
    return y if gain in (None, 1) else r.emit(shapes.Scale(float(gain)), y)


def _act(r: Recorder, name: str, x: Tensor, parameter: float = 0.0) -> Tensor:
    if parameter < 0:
        r.refuse(f"calls {name} with the negative number {parameter}")
    return r.emit(Activation(name, parameter), x)


def activation(name: str, default: float = 0.0) -> Callable[..., Tensor]:
    """The rule of an activation with one number, or none."""

    def rule(r: Recorder, input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        # The one number of these functions is an activation's parameter; a flag is `inplace`.
        numbers = [v for v in (*args, *kwargs.values()) if not isinstance(v, bool)]
        if inplace or True in [v for v in args if isinstance(v, bool)]:
            return arithmetic.over(r, input, lambda x: _act(r, name, x, *(numbers or [default])))
        return _act(r, name, input, *(numbers or [default]))

    return rule


def softplus(r: Recorder, input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """F.softplus."""
    if (beta, threshold) != (1, 20):
        r.refuse(f"calls softplus with beta {beta} and threshold {threshold}")
    return _act(r, "softplus", input)


def _norm(r: Recorder, x: Tensor, make: Callable[..., Any], weight: Any, bias: Any) -> Tensor:
    arithmetic.constant(r, weight, bias)
    dtype = x.dtype
    # Statistics of low precision are float32, as autocast and PyTorch's own kernels have them.
    x = views.cast(r, x, torch.float32) if dtype in _HALF else x
    return views.cast(r, r.emit(make(weight, bias), x), dtype)


def layer_norm(
    r: Recorder, input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """F.layer_norm."""
    shape = tuple(normalized_shape)
    if len(shape) >= input.dim():
        r.refuse("normalises over the batch")
    return _norm(r, input, lambda w, b: LayerNorm(shape, w, b, eps), weight, bias)


def group_norm(r: Recorder, input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """F.group_norm."""
    return _norm(r, input, lambda w, b: GroupNorm(num_groups, w, b, eps), weight, bias)


def instance_norm(
    r: Recorder, input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """F.instance_norm, of each batch by itself."""
    if running_mean is not None or running_var is not None or not use_input_stats:
        r.refuse("keeps running statistics")
    return group_norm(r, input, input.shape[1], weight, bias, eps)
