"""Modules that stay where they are and run as one operator: a convolution, the normalisation after it, the activation after that.

`Unit` names them, `fused` runs units as operators, `run` does so where nobody looks at what lies between the modules. Operators
are imported as they are used: to load Triton takes a third of a second.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from gancore.kernels import ConvTransposeLink

ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linear": lambda x, slope: x,
    "relu": lambda x, slope: F.relu(x),
    "leaky_relu": F.leaky_relu,
    "elu": lambda x, slope: F.elu(x),
    "silu": lambda x, slope: F.silu(x),
    "tanh": lambda x, slope: torch.tanh(x),
    "sigmoid": lambda x, slope: torch.sigmoid(x),
    "softplus": lambda x, slope: F.softplus(x),
}


class Unit(NamedTuple):
    """A convolution (transposed or not), its norm (only after a transposed one) and the name of its activation."""

    conv: nn.Module
    norm: nn.Module | None = None
    act: str = "linear"
    slope: float = 0.2


def activation(module: nn.Module | None) -> tuple[str, float] | None:
    """The operators' name and slope of an activation module, or None for one that they do not have."""
    match module:
        case None | nn.Identity():
            return "linear", 0.2
        case nn.ReLU():
            return "relu", 0.2
        case nn.LeakyReLU(negative_slope=slope):
            return "leaky_relu", float(slope)
        case nn.Tanh():
            return "tanh", 0.2
        case nn.ELU(alpha=1 | 1.0):
            return "elu", 0.2
        case nn.SiLU():
            return "silu", 0.2
        case nn.Sigmoid():
            return "sigmoid", 0.2
        case nn.Softplus(beta=1, threshold=20):
            return "softplus", 0.2
    return None


def padding(conv: Any) -> tuple[int, ...] | None:
    """The zeros that a convolution adds on both sides of each dimension, or None where no such numbers exist."""
    if conv.padding_mode != "zeros":
        return None
    if conv.padding == "valid":
        return (0,) * len(conv.kernel_size)
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return None if any(t % 2 for t in total) else tuple(t // 2 for t in total)
    return conv.padding


def link(conv: Any, norm: Any, act: str, slope: float) -> "ConvTransposeLink":
    """What the chain operator takes: weights as they are now, so that parametrisations and reloaded state count."""
    from gancore.kernels import ConvTransposeLink

    normalised = norm is not None and not isinstance(norm, nn.Identity)
    return ConvTransposeLink(
        weight=conv.weight,
        bias=conv.bias,
        stride=conv.stride,
        padding=conv.padding,
        output_padding=conv.output_padding,
        groups=conv.groups,
        dilation=conv.dilation,
        act=None if act == "linear" else act,
        slope=slope,
        **({"bn_weight": norm.weight, "bn_bias": norm.bias, **statistics(norm)} if normalised else {}),
    )


def statistics(norm: Any) -> dict[str, Any]:
    """The operator's arguments that make it keep and use statistics as `norm` does, a BatchNorm or anything with its attributes."""
    kept = norm.track_running_stats or not norm.training
    count = norm.num_batches_tracked if kept else None
    return {
        "running_mean": norm.running_mean if kept else None,
        "running_var": norm.running_var if kept else None,
        "num_batches_tracked": count,
        "training": norm.training or norm.running_mean is None,
        # Without a count there is nothing to average over either, so the number is not used.
        "momentum": 0.0 if norm.momentum is None and count is None else norm.momentum,
        "eps": norm.eps,
        "process_group": _group(norm),
    }


def _group(norm: Any) -> Any:
    """The ranks that share statistics, as in torch.nn.SyncBatchNorm: in training, where there are several."""
    synchronised = isinstance(norm, nn.SyncBatchNorm) or getattr(norm, "synchronised", False)
    distributed = torch.distributed
    if not (synchronised and norm.training and distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def fused(x: Tensor, units: Sequence[Unit]) -> Tensor:
    """The units one after another: one convolution, or transposed convolutions, several of which keep one tensor each."""
    conv: Any = units[0].conv
    dims = len(conv.kernel_size)
    if not conv.transposed:
        where = {"stride": conv.stride, "padding": padding(conv), "dilation": conv.dilation, "groups": conv.groups}
        return convolution(dims)(x, conv.weight, conv.bias, **where, act=units[0].act, slope=units[0].slope)
    return transposed(x, [link(*unit) for unit in units], dims)


def convolution(dims: int) -> Callable[..., Tensor]:
    """The operator for convolutions of so many dimensions."""
    from gancore import kernels

    return getattr(kernels, f"conv{dims}d_bias_act")


def transposed(x: Tensor, links: "Sequence[ConvTransposeLink]", dims: int, impl: str = "auto") -> Tensor:
    """Transposed convolutions of so many dimensions with what follows each."""
    from gancore import kernels

    if len(links) > 1:
        return kernels.conv_transpose_chain(x, links, impl=impl)
    return getattr(kernels, f"conv_transpose{dims}d_bn_act")(x, **links[0]._asdict(), impl=impl)


def run(x: Tensor, units: Sequence[Unit]) -> Tensor:
    """`fused`, or the modules one by one where one of them has hooks or the program is to leave this process."""
    if not leaving() and not any(hooked(m) for unit in units for m in unit[:2] if m is not None):
        return fused(x, units)
    for conv, norm, act, slope in units:
        x = conv(x) if norm is None else norm(conv(x))
        x = ACTIVATIONS[act](x, slope)
    return x


def leaving() -> bool:
    """Whether this call is being recorded for elsewhere (torch.export, ONNX, torch.jit.trace), where gancore may be missing."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def hooked(module: nn.Module) -> bool:
    """Whether a call of `module` also calls functions that somebody has registered, which have to see its own result."""
    every = nn.modules.module
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or every._global_forward_hooks
        or every._global_forward_pre_hooks
        or every._global_backward_hooks
        or every._global_backward_pre_hooks
    )
