"""What is kept of a critic that is a module between calls, and how torch.compile is handed one.

torch.compile refuses a double backward. What it takes is a call that it traces by running it (`torch._dynamo.nonstrict_trace`):
there autograd works as it does eagerly, and all that it did is in the graph. Such a call is given numbers and tensors alone. So
the critic goes by its id, which a compiler guards, with its parameters and buffers beside it, that gradients reach them.
"""

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gancore.core.attached import attach

_critics: dict[int, Any] = {}
_scales: dict[int, Tensor] = {}
_opened: dict[Callable[..., Any], Callable[..., Any]] = {}


def number(critic: nn.Module, device: torch.device) -> int:
    """The critic's id, by which it is found from now on. It is forgotten with the critic, before another can have that id."""
    which = id(critic)
    if which not in _critics:
        _critics[which] = ref(critic, lambda _: (_critics.pop(which), _scales.pop(which, None)))
    if which not in _scales or _scales[which].device != device:
        _scales[which] = attach(critic, "penalty_scale", torch.ones((), device=device))
    return which


def scale(which: int) -> Tensor:
    """The scale of that critic's float16 gradients by its input, (), float32, which `gancore.penalties.scales` adapts in place."""
    return _scales[which]


def opened(critic: nn.Module, device: torch.device, body: Callable[..., Any]) -> int:
    """The critic's number, for a call of `traceable(body)` inside a compiled function."""
    if body not in _opened:
        # Not at import: it loads the whole compiler, which is there once something is compiled.
        _opened[body] = torch._dynamo.nonstrict_trace(body)
    return number(critic, device)


def traceable(body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` in the form that torch.compile traces by running it."""
    return _opened[body]


def state(critic: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(critic.named_parameters()), **dict(critic.named_buffers())}


def call(which: int, tensors: dict[str, Tensor], *inputs: Any) -> Any:
    """The critic of that number, with `tensors` for its state."""
    return functional_call(_critics[which](), tensors, inputs)
