"""Activation checkpointing of players: each keeps its inputs for the backward pass and runs again in it (arXiv:1604.06174)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gancore.core.vocabulary import Nets


@contextmanager
def recomputed(nets: Nets, wanted: bool = True) -> Iterator[None]:
    """Calls of the players in here keep no activations. The second run finds the buffers, such as running
    statistics and power iterations, as the first one did, and leaves them as they are by then."""
    if not wanted:
        yield
        return
    for net in nets.values():
        vars(net)["forward"] = partial(_call, net, net.forward)
    try:
        yield
    finally:
        for net in nets.values():
            del vars(net)["forward"]


def _call(net: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    contexts = lambda: (nullcontext(), _BuffersThen(net))
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **named)


class _BuffersThen:
    """A context in which a module's buffers are what they are at its making, and after which what they were before it."""

    def __init__(self, net: nn.Module) -> None:
        self.then = [(b, b.clone()) for b in net.buffers()]
        self.now: list[Tensor] = []

    def __enter__(self) -> None:
        self.now = [b.clone() for b, _ in self.then]
        with torch.no_grad():
            for buffer, value in self.then:
                buffer.copy_(value)

    def __exit__(self, *error: object) -> None:
        with torch.no_grad():
            for (buffer, _), value in zip(self.then, self.now, strict=True):
                buffer.copy_(value)
