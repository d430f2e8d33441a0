"""Which of PyTorch's functions becomes which node. A rule has its function's own signature, behind the recorder."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore.penalties.passes import shapes
from gancore.penalties.passes.norms import GroupNorm, LayerNorm
from gancore.penalties.passes.pointwise import Activation
from gancore.penalties.passes.products import Convolution, Factor, Geometry, Linear, Summand
from gancore.penalties.passes.record import Recorder

Rule = Callable[..., Any]
_HALF = (torch.float16, torch.bfloat16)


def rule_of(func: Any) -> Rule | None:
    """The rule of a function, or None."""
    return _rules().get(func)


def _list(value: Any, dims: int) -> list[int]:
    found = [value] if isinstance(value, int) else list(value)
    return found * dims if len(found) == 1 else found


def _narrow(r: Recorder, x: Tensor) -> Tensor:
    """x in the type that autocast gives products."""
    kind = r.device.type
    if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return _cast(r, x, torch.get_autocast_dtype(kind))
    return x


def _cast(r: Recorder, x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else r.emit(shapes.Cast(dtype), x, dtype=dtype)


def _known(r: Recorder, *points: Any) -> None:
    for x in points:
        if r.index(x) is not None:
            r.refuse("multiplies values that both depend on the points")


# -- products ----------------------------------------------------------------------------------------------------------------


def _conv(r: Recorder, dims: int, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
          dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
    kernel = list(weight.shape[2:])
    dilation = _list(dilation, dims)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
        input = _pad(r, input, sides) if any(total) else input
        padding = 0
    geometry = Geometry(_list(stride, dims), _list(padding, dims), dilation, False, [0] * dims, groups)
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(input.shape[2:], geometry.padding, dilation, kernel, geometry.stride, strict=True)
    ]
    return _convolve(r, input, weight, bias, geometry, (weight.shape[0], *sizes))


def _transposed(r: Recorder, dims: int, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
                output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:  # fmt: skip
    geometry = Geometry(
        _list(stride, dims), _list(padding, dims), _list(dilation, dims), True, _list(output_padding, dims), groups
    )
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            input.shape[2:], geometry.stride, geometry.padding, geometry.dilation, weight.shape[2:], geometry.output_padding, strict=True
        )
    ]
    return _convolve(r, input, weight, bias, geometry, (weight.shape[1] * groups, *sizes))


def _convolve(r: Recorder, x: Tensor, weight: Tensor, bias: Any, geometry: Geometry, sizes: tuple[int, ...]) -> Tensor:
    _known(r, weight, bias)
    if x.dim() != weight.dim():
        r.refuse(f"convolves a tensor of shape {tuple(x.shape)}, which has no batch")
    x = _narrow(r, x)
    return r.emit(Convolution(weight, bias, x.dtype, geometry), x, sizes=(r.rows, *sizes))


def _linear(r: Recorder, input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    _known(r, weight, bias)
    if input.dim() < 2 or weight.dim() != 2:
        r.refuse(f"multiplies tensors of shapes {tuple(input.shape)} and {tuple(weight.shape)}")
    x = _narrow(r, input)
    return r.emit(Linear(weight, bias, x.dtype), x, sizes=(*x.shape[:-1], len(weight)))


def _matmul(r: Recorder, input: Tensor, other: Tensor) -> Tensor:
    _known(r, *((other,) if r.index(input) is not None else (input,)))
    if r.index(input) is None or other.dim() not in (1, 2):
        r.refuse("calls matmul of other than the points' values by a matrix")
    if other.dim() == 1:
        y = _linear(r, input, other[None])
        return _reshape(r, torch.squeeze, y, -1)
    return _linear(r, input, other.t())


def _fused(r: Recorder, dims: int, x: Tensor, weight: Tensor, bias: Any = None, *, act: str | None = "linear", slope: float = 0.2,
           gain: float | None = None, clamp: float | None = None, impl: str = "auto", **where: Any) -> Tensor:  # fmt: skip
    return _after(r, _conv(r, dims, x, weight, bias, **where), act, slope, gain, clamp)


def _bias_act(r: Recorder, x: Tensor, b: Any = None, dim: int = 1, act: str | None = "linear", slope: float = 0.2,
              gain: float | None = None, clamp: float | None = None, *, impl: str = "auto") -> Tensor:  # fmt: skip
    if b is not None:
        x = _add(r, x, b.view([-1 if d == dim % x.dim() else 1 for d in range(x.dim())]))
    return _after(r, x, act, slope, gain, clamp)


def _after(r: Recorder, y: Tensor, act: str | None, slope: float, gain: float | None, clamp: float | None) -> Tensor:
    if clamp is not None:
        r.refuse("clamps its result")
    if act not in (None, "linear"):
        y = _act(r, str(act), y, {"leaky_relu": slope, "elu": 1.0}.get(str(act), 0.0))
    return y if gain in (None, 1) else r.emit(shapes.Scale(float(gain)), y)  # type: ignore[arg-type]


# -- activations and norms ---------------------------------------------------------------------------------------------------


def _act(r: Recorder, name: str, x: Tensor, parameter: float = 0.0) -> Tensor:
    if parameter < 0:
        r.refuse(f"calls {name} with the negative number {parameter}")
    return r.emit(Activation(name, parameter), x)


def _activation(name: str, default: float = 0.0) -> Rule:
    def rule(r: Recorder, input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        # The one number of these functions is an activation's parameter; a flag is `inplace`.
        numbers = [v for v in (*args, *kwargs.values()) if not isinstance(v, bool)]
        if inplace or True in [v for v in args if isinstance(v, bool)]:
            return _over(r, input, lambda x: _act(r, name, x, *(numbers or [default])))
        return _act(r, name, input, *(numbers or [default]))

    return rule


def _over(r: Recorder, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    """A step that writes its result over x: from here on, x stands for that."""
    if r.index(x) in r.owners or r.index(x) in r.owners.values():
        r.refuse("writes over a tensor of which there may be views")
    y = step(x)
    x._place = y._place  # type: ignore[attr-defined]
    return x


def _softplus(r: Recorder, input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    if (beta, threshold) != (1, 20):
        r.refuse(f"calls softplus with beta {beta} and threshold {threshold}")
    return _act(r, "softplus", input)


def _norm(r: Recorder, x: Tensor, make: Callable[..., Any], weight: Any, bias: Any) -> Tensor:
    _known(r, weight, bias)
    dtype = x.dtype
    # Statistics of low precision are float32, as autocast and PyTorch's own kernels have them.
    x = _cast(r, x, torch.float32) if dtype in _HALF else x
    return _cast(r, r.emit(make(weight, bias), x), dtype)


def _layer_norm(r: Recorder, input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    shape = tuple(normalized_shape)
    if len(shape) >= input.dim():
        r.refuse("normalises over the batch")
    return _norm(r, input, lambda w, b: LayerNorm(shape, w, b, eps), weight, bias)


def _group_norm(r: Recorder, input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    return _norm(r, input, lambda w, b: GroupNorm(num_groups, w, b, eps), weight, bias)


def _instance_norm(r: Recorder, input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                   use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:  # fmt: skip
    if running_mean is not None or running_var is not None or not use_input_stats:
        r.refuse("keeps running statistics")
    return _group_norm(r, input, input.shape[1], weight, bias, eps)


# -- shapes ------------------------------------------------------------------------------------------------------------------


def _meta(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with torch.no_grad():
        return function(x.detach(), *args, **kwargs)


def _reshape(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    y = _meta(function, input, *args, **kwargs)
    if y.shape == input.shape and y.dtype == input.dtype:
        return input
    if not y.dim() or len(y) != r.rows:
        r.refuse(f"reshapes {tuple(input.shape)} to {tuple(y.shape)}, in which samples do not stand apart")
    found = r.emit(shapes.Reshape(tuple(y.shape[1:])), input, sizes=y.shape)
    r.owners[r.index(found)] = r.index(input)  # type: ignore[index, assignment]
    return found


def _same(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Copies and changes of layout, which are nothing here, or of type."""
    probe = torch.empty([0] * input.dim(), dtype=input.dtype, device=r.device)
    return _cast(r, input, function(probe, *args, **kwargs).dtype)


def _getitem(r: Recorder, input: Tensor, index: Any) -> Tensor:
    parts = index if isinstance(index, tuple) else (index,)
    if parts[0] != slice(None) or not all(isinstance(p, (int, slice)) or p is None or p is Ellipsis for p in parts):
        r.refuse("picks samples, or picks by tensors")
    y = _map(r, torch.Tensor.__getitem__, input, index)
    r.owners[r.index(y)] = r.index(input)  # type: ignore[index, assignment]
    return y


def _map(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A linear map of the last dimensions."""
    y = _meta(function, input, *args, **kwargs)
    return r.emit(shapes.Map(partial(_apply, function, args, kwargs)), input, sizes=y.shape, dtype=y.dtype)


def _apply(function: Callable[..., Tensor], args: tuple, kwargs: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *args, **kwargs)


def _turned(r: Recorder, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Permutations that leave the batch where it is, and its samples in order."""
    sizes = list(range(2, input.dim() + 2))  # all different, so that it shows where each dimension goes
    with torch.no_grad():
        moved = function(torch.empty(sizes, device="meta"), *args, **kwargs).shape
    if moved[0] != 2:
        r.refuse("moves the batch's dimension")
    y = _map(r, function, input, *args, **kwargs)
    r.owners[r.index(y)] = r.index(input)  # type: ignore[index, assignment]
    return y


def _pad(r: Recorder, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if value:
        r.refuse(f"pads with {value}")
    return _map(r, F.pad, input, tuple(pad), mode)


def _interpolate(r: Recorder, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if kwargs.get("mode") in ("area",):
        r.refuse("interpolates by area")
    return _map(r, F.interpolate, input, *args, **kwargs)


def _avg_pool(r: Recorder, dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
              count_include_pad: bool = True, divisor_override: Any = None) -> Tensor:  # fmt: skip
    sides = [_list(v, dims) for v in (kernel_size, stride if stride not in (None, []) else kernel_size, padding)]
    arguments = (*sides, ceil_mode, count_include_pad, *(() if dims == 1 else (divisor_override,)))
    function = getattr(torch.ops.aten, f"avg_pool{dims}d")
    y = _meta(function, input, *arguments)
    node: Any = shapes.Pool(dims, arguments) if dims > 1 and input.dim() == dims + 2 else shapes.Map(lambda x: function(x, *arguments))
    return r.emit(node, input, sizes=y.shape)


def _max_pool(r: Recorder, dims: int, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
              ceil_mode: bool = False, return_indices: bool = False) -> Tensor:  # fmt: skip
    if return_indices or input.dim() != dims + 2:
        r.refuse("wants the places of maxima, or has no batch")
    sides = [_list(v, dims) for v in (kernel_size, stride if stride not in (None, []) else kernel_size, padding, dilation)]
    if dims == 1:
        x = _reshape(r, torch.unsqueeze, input, 2)
        y = _max_pool(r, 2, x, *([neutral, *side] for side, neutral in zip(sides, (1, 1, 0, 1), strict=True)), ceil_mode)
        return _reshape(r, torch.squeeze, y, 2)
    y, _ = getattr(torch.ops.aten, f"max_pool{dims}d_with_indices")(input.detach(), *sides, ceil_mode)
    return r.emit(shapes.MaxPool(dims, (*sides, ceil_mode)), input, sizes=y.shape)


def _total(r: Recorder, mean: bool, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    dims = () if dim is None else tuple(d % input.dim() for d in ([dim] if isinstance(dim, int) else dim))
    if not dims or 0 in dims:
        r.refuse("sums over the batch")
    x = input if dtype is None else _cast(r, input, dtype)
    sizes = [1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims]
    factor = 1 / math.prod(x.shape[d] for d in dims) if mean else 1.0
    return r.emit(shapes.Mean(dims, keepdim, factor), x, sizes=sizes)


# -- arithmetic --------------------------------------------------------------------------------------------------------------


def _add(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    if r.index(input) is None:
        return _add(r, _scale(r, other, alpha), input)
    if r.index(other) is None:
        w = torch.as_tensor(other, device=r.device) * alpha
        return _joint(r, Summand, input, w)
    dtype = torch.promote_types(input.dtype, other.dtype)
    a, b = _cast(r, input, dtype), _cast(r, other, dtype)
    return r.emit(shapes.Sum(float(alpha)), a, b, sizes=torch.broadcast_shapes(a.shape, b.shape))


def _joint(r: Recorder, node: Callable[..., Any], x: Tensor, w: Tensor) -> Tensor:
    """x with a tensor that is none of the points' values."""
    sizes = torch.broadcast_shapes(x.shape, w.shape)
    if node is Summand and sizes != x.shape:
        x = _map(r, torch.Tensor.expand, x, -1, *sizes[1:]) if len(sizes) == x.dim() else x
    if len(sizes) != x.dim() or (node is Summand and sizes != x.shape):
        r.refuse(f"combines shapes {tuple(x.shape)} and {tuple(w.shape)}")
    dtype = torch.result_type(torch.empty(1, dtype=x.dtype), w.detach().cpu() if w.dim() == 0 else torch.empty(1, dtype=w.dtype))
    x = _cast(r, x, dtype)
    return r.emit(node(w, dtype), x, sizes=sizes)


def _scale(r: Recorder, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else r.emit(shapes.Scale(float(factor)), x)


def _sub(r: Recorder, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    return _add(r, input, other, alpha=-alpha)


def _mul(r: Recorder, input: Any, other: Any) -> Tensor:
    if r.index(input) is None:
        input, other = other, input
    _known(r, other)
    return _scale(r, input, other) if isinstance(other, (int, float)) else _joint(r, Factor, input, other)


def _div(r: Recorder, input: Any, other: Any) -> Tensor:
    _known(r, other)
    return _scale(r, input, 1 / other) if isinstance(other, (int, float)) else _joint(r, Factor, input, 1 / other)


def _cat(r: Recorder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    dim = dim % tensors[0].dim()
    given = [x for x in tensors if r.index(x) is None]
    if dim == 0 or any(x.requires_grad for x in given):
        r.refuse("joins samples" if dim == 0 else "joins points with learned values")
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    parts = [None if r.index(x) is not None else x.to(dtype) for x in tensors]
    inputs = [_cast(r, x, dtype) for x in tensors if r.index(x) is not None]
    sizes = list(tensors[0].shape)
    sizes[dim] = sum(x.shape[dim] for x in tensors)
    return r.emit(shapes.Concatenation(parts, dim), *inputs, sizes=sizes)


def _dropout(r: Recorder, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if training and p:
        r.refuse("drops values by chance")
    return input


@cache
def _rules() -> dict[Any, Rule]:
    from gancore import kernels

    T = torch.Tensor
    rules: dict[Any, Rule] = {}
    # The library's name of a function, of its Python twin and of the tensor's method are three objects.
    for name, default in (("relu", 0), ("leaky_relu", 0.01), ("elu", 1.0), ("tanh", 0), ("sigmoid", 0), ("silu", 0)):
        for place in (torch, F, T):
            for suffix in ("", "_"):
                function = getattr(place, name + suffix, None)
                if function is not None:
                    rule = _activation(name, default)
                    rules[function] = partial(rule, inplace=True) if suffix else rule
    rules |= {F.softplus: _softplus, F.layer_norm: _layer_norm, torch.layer_norm: _layer_norm, F.group_norm: _group_norm}
    rules |= {F.instance_norm: _instance_norm, F.linear: _linear, F.pad: _pad, F.interpolate: _interpolate, F.dropout: _dropout}
    for dims in (1, 2, 3):
        rules[getattr(torch, f"conv{dims}d")] = lambda r, *a, _n=dims, **k: _conv(r, _n, *a, **k)
        rules[getattr(torch, f"conv_transpose{dims}d")] = lambda r, *a, _n=dims, **k: _transposed(r, _n, *a, **k)
        rules[getattr(kernels, f"conv{dims}d_bias_act")] = lambda r, *a, _n=dims, **k: _fused(r, _n, *a, **k)
        rules[getattr(F, f"avg_pool{dims}d")] = lambda r, *a, _n=dims, **k: _avg_pool(r, _n, *a, **k)
        for function in (getattr(F, f"max_pool{dims}d"), getattr(torch, f"max_pool{dims}d")):
            rules[function] = lambda r, *a, _n=dims, **k: _max_pool(r, _n, *a, **k)
        function = getattr(F, f"adaptive_avg_pool{dims}d")
        rules[function] = partial(_bound, _map, function)
    rules[kernels.bias_act] = _bias_act
    for kind, names in {
        _reshape: ("reshape", "view", "flatten", "squeeze", "unsqueeze", "unflatten"),
        _same: ("contiguous", "clone", "to", "float", "type", "double", "half", "bfloat16"),
        _turned: ("permute", "transpose", "movedim", "swapaxes"),
    }.items():
        for name in names:
            for place in (torch, T):
                if hasattr(place, name) and not isinstance(getattr(place, name), type) and name not in ("double", "half", "type"):
                    rules[getattr(place, name)] = partial(_bound, kind, getattr(place, name))
    for function in (F.pixel_unshuffle, F.pixel_shuffle):
        rules[function] = partial(_bound, _map, function)
    for place in (torch, T):
        rules[place.sum] = lambda r, *a, **k: _total(r, False, *a, **k)
        rules[place.mean] = lambda r, *a, **k: _total(r, True, *a, **k)
        rules |= {place.add: _add, place.sub: _sub, place.mul: _mul, place.div: _div, place.matmul: _matmul}
        rules[place.neg] = lambda r, x: _scale(r, x, -1.0)
    rules |= {T.__add__: _add, T.__radd__: lambda r, a, b: _add(r, b, a), T.__sub__: _sub, T.__mul__: _mul, T.__rmul__: _mul}
    rules |= {T.__rsub__: lambda r, a, b: _sub(r, b, a), T.__truediv__: _div, T.__matmul__: _matmul, torch.cat: _cat}
    rules[T.__getitem__] = _getitem
    rules[T.__neg__] = lambda r, x: _scale(r, x, -1.0)
    rules |= {f: lambda r, a, b: _over(r, a, lambda x: _add(r, x, b)) for f in (T.__iadd__, T.add_)}
    return rules


def _bound(kind: Rule, function: Any, r: Recorder, *args: Any, **kwargs: Any) -> Tensor:
    return kind(r, function, *args, **kwargs)
