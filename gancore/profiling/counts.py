"""What operators are for and what they need at least: the layer that calls each, its bytes and its operations."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

LAYER = "layer "
Key = tuple[str, str]  # operator, shapes of its inputs


class Layers(TorchFunctionMode):
    """Ranges named after the layer whose parameters a function is given, or after the one that came before it."""

    def __init__(self, players: Mapping[str, nn.Module]) -> None:
        super().__init__()
        named = [(player, path, p) for player, net in players.items() for path, p in net.named_parameters()]
        self.names = {id(p): f"{player}.{path.rpartition('.')[0] or path}" for player, path, p in named}
        self.last = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own = list(dict.fromkeys(self.names[id(t)] for t in _tensors((args, kwargs)) if id(t) in self.names))
        if own:
            # A chain of layers bears the names of its ends; an optimiser takes all weights at once.
            self.last = own[0] if len(own) == 1 else f"{own[0]} to {own[-1]}"
        if not self.last:
            return func(*args, **kwargs)
        with torch.profiler.record_function(LAYER + (self.last if own else f"after {self.last}")):
            return func(*args, **kwargs)


class Counts(TorchDispatchMode):
    """Bytes read and written, and operations, of each operator with inputs of these shapes: the mean of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Key, tuple[int, float, float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        given, made = list(_tensors((args, kwargs or {}))), list(_tensors(out))
        # A view moves nothing; what is written in place is both read and written.
        schema = func._schema
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        inputs = {id(t): t for t in given}
        named = {**dict(zip((a.name for a in schema.arguments), args, strict=False)), **(kwargs or {})}
        changed = [named.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        written = {id(t): t for t in (*_tensors(changed), *(t for t in made if id(t) not in inputs))}
        moved = 0 if view else sum(map(_bytes, inputs.values())) + sum(map(_bytes, written.values()))
        count = flop_registry.get(func._overloadpacket)
        operations = float(count(*args, **(kwargs or {}), out_val=out)) if count else float(sum(t.numel() for t in made))
        calls, b, f = self.found.get((name, shapes(given)), (0, 0.0, 0.0))
        self.found[name, shapes(given)] = (calls + 1, b + moved, f + (0.0 if view else operations))
        return out

    def of(self, name: str, given: str) -> tuple[float, float]:
        """Bytes and operations of one call; where no call had these shapes, of any one of the operator."""
        row = self.found.get((name, given)) or next((r for (n, _), r in self.found.items() if n == name), (1, 0.0, 0.0))
        return row[1] / row[0], row[2] / row[0]


def shapes(tensors: list[Tensor]) -> str:
    """Shapes as a key that the profiler's own record of them gives as well."""
    return str([list(t.shape) for t in tensors if t.dim()])


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
