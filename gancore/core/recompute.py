"""Activation checkpointing of players: each keeps its inputs for the backward pass and runs again in it (arXiv:1604.06174)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gancore.core.vocabulary import Nets


@contextmanager
def recomputed(nets: Nets, wanted: bool = True) -> Iterator[None]:
    """Calls of the players in here keep no activations. Buffers, such as running statistics, move once, not at the second run."""
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
    contexts = lambda: (nullcontext(), _buffers_stay(net))
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _buffers_stay(net: nn.Module) -> Iterator[None]:
    before = [(b, b.clone()) for b in net.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
