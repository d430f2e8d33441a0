"""What a run holds in memory: an estimate from one real step."""

import weakref
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gancore.trainer import Trainer


class _Held:
    """A saved tensor with a life of its own."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Saved:
    """Bytes of what autograd keeps for the backward passes, each storage counted once: now, and at the most."""

    def __init__(self, own: set[int]) -> None:
        self.own, self.now, self.peak = own, 0, 0
        self.holders: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> _Held:
        """Count a tensor for as long as autograd holds what this returns."""
        storage, held = tensor.untyped_storage(), _Held(tensor)
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self.own or not size:
            return held
        if not self.holders[key]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.holders[key] += 1
        weakref.finalize(held, self._release, key, size)
        return held

    def _release(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= size


def estimate(trainer: "Trainer") -> dict[str, int]:
    """Take one step; bytes by use. "activations" is the most that autograd held at once, measured, not computed.

    Not counted: what operators allocate for a moment, and what the device's allocator keeps in reserve. On a GPU "peak" is the
    allocator's own figure for the step.
    """
    weights = [p for net in trainer.nets.values() for p in net.parameters()]
    saved = _Saved({w.untyped_storage().data_ptr() for w in weights})
    cuda = trainer.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(trainer.device)
    with trainer.random(), torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda held: held.tensor):
        trainer.step()
    states = [t for o in trainer.optims.values() for s in o.state.values() for t in s.values() if isinstance(t, Tensor)]
    buffers = [b for net in trainer.nets.values() for b in net.buffers()]
    average = [*trainer.average.copies.parameters(), *trainer.average.copies.buffers()]
    parts = {
        "parameters and buffers": _bytes([*weights, *buffers]),
        "gradients": _bytes([w for w in weights if w.grad is not None]),
        "optimiser states": _bytes(states),
        "moving average": _bytes(average),
        "data set": _bytes(list(trainer.source.fields.values())),
        "activations": saved.peak,
    }
    parts["total"] = sum(parts.values())
    return {**parts, "peak": torch.cuda.max_memory_allocated(trainer.device)} if cuda else parts


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
