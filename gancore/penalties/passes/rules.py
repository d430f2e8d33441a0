"""Which of PyTorch's functions becomes which node. A rule has its function's own signature, behind the recorder.

One function has several names that are different objects: the library's, its Python twin's and the tensor's method.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore.penalties.passes import arithmetic, calls, views
from gancore.penalties.passes.record import Recorder

Rule = Callable[..., Any]
_T: Any = Tensor


def rule_of(func: Any) -> Rule | None:
    """The rule of a function, or None."""
    return _rules().get(func)


@cache
def _rules() -> dict[Any, Rule]:
    from gancore import kernels  # as operators are used: to load Triton takes a third of a second

    rules: dict[Any, Rule] = {kernels.bias_act: calls.bias_act, **_activations(), **_views(), **_arithmetic()}
    for norm in (F.layer_norm, torch.layer_norm):
        rules[norm] = calls.layer_norm
    rules |= {F.group_norm: calls.group_norm, F.instance_norm: calls.instance_norm, F.linear: calls.linear}
    for dims in (1, 2, 3):
        rules[getattr(torch, f"conv{dims}d")] = _of(calls.convolution, dims)
        rules[getattr(torch, f"conv_transpose{dims}d")] = _of(calls.transposed, dims)
        rules[getattr(kernels, f"conv{dims}d_bias_act")] = _of(calls.fused, dims)
        rules[getattr(F, f"avg_pool{dims}d")] = _of(views.avg_pool, dims)
        for place in (torch, F):
            rules[getattr(place, f"max_pool{dims}d")] = _of(views.max_pool, dims)
        adaptive = getattr(F, f"adaptive_avg_pool{dims}d")
        rules[adaptive] = _of(views.mapped, adaptive)
    return rules


def _of(rule: Rule, *first: Any) -> Rule:
    """The rule with its first arguments given: which function it is, or of how many dimensions."""

    def call(r: Recorder, *args: Any, **kwargs: Any) -> Tensor:
        found: Tensor = rule(r, *first, *args, **kwargs)
        return found

    return call


def _activations() -> dict[Any, Rule]:
    rules: dict[Any, Rule] = {F.softplus: calls.softplus}
    for name, default in (("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0), ("tanh", 0.0), ("sigmoid", 0.0), ("silu", 0.0)):
        rule = calls.activation(name, default)
        for place in (torch, F, _T):
            if hasattr(place, name):
                rules[getattr(place, name)] = rule
            if hasattr(place, name + "_"):
                rules[getattr(place, name + "_")] = partial(rule, inplace=True)
    return rules


def _views() -> dict[Any, Rule]:
    rules: dict[Any, Rule] = {F.pad: views.pad, F.interpolate: views.interpolate, _T.__getitem__: views.getitem}
    kinds = {
        views.reshape: ("reshape", "view", "flatten", "squeeze", "unsqueeze", "unflatten"),
        views.turned: ("permute", "transpose", "movedim", "swapaxes"),
        views.copied: ("contiguous", "clone", "to", "float", "double", "half", "bfloat16"),
    }
    for kind, names in kinds.items():
        for function in {getattr(place, name, None) for name in names for place in (torch, _T)}:
            if callable(function):  # torch.float is a type
                rules[function] = _of(kind, function)
    for function in (F.pixel_unshuffle, F.pixel_shuffle):
        rules[function] = _of(views.mapped, function)
    for place in (torch, _T):
        rules |= {place.sum: _of(views.total, False), place.mean: _of(views.total, True)}
    return rules


def _arithmetic() -> dict[Any, Rule]:
    add, subtract, multiply, divide = arithmetic.add, arithmetic.subtract, arithmetic.multiply, arithmetic.divide
    rules: dict[Any, Rule] = {torch.cat: arithmetic.concatenate, F.dropout: arithmetic.dropout}
    for place in (torch, _T):
        rules |= {place.add: add, place.sub: subtract, place.mul: multiply, place.div: divide, place.matmul: calls.matmul}
        rules[place.neg] = arithmetic.negative
    rules |= {_T.__add__: add, _T.__sub__: subtract, _T.__mul__: multiply, _T.__truediv__: divide, _T.__matmul__: calls.matmul}
    rules |= {_T.__radd__: add, _T.__rmul__: multiply, _T.__rsub__: arithmetic.subtract_from, _T.__neg__: arithmetic.negative}
    return rules | {_T.__iadd__: arithmetic.add_over, _T.add_: arithmetic.add_over}
