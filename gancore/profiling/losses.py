"""What a step loses, and why: operators by layer, the time each takes beyond what this machine needs at least, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gancore.acceleration.analysis import analyse
from gancore.machine import least_seconds
from gancore.profiling.trace import Call

_KINDS = {
    "batch_norm": "batch norm", "convolution": "convolution", "threshold": "ReLU", "relu": "ReLU", "leaky_relu": "leaky ReLU",
    "fused_adam": "Adam",
    "addmm": "matrix product", "mm": "matrix product", "bmm": "matrix product", "foreach_lerp": "moving average",
}  # fmt: skip
_ACTS = ("ReLU", "leaky ReLU", "tanh", "sigmoid", "elu", "silu", "softplus")
_NORMS = ("batch norm", "layer norm", "group norm")


@dataclass(frozen=True)
class Loss:
    """An operator in a layer, forward and backward: its share of the step, seconds a step, the least, and a sentence."""

    kind: str
    layer: str
    share: float
    seconds: float
    least: float
    calls: float
    sentence: str

    @property
    def lost(self) -> float:
        """Seconds a step beyond the least."""
        return max(0.0, self.seconds - self.least)


def kind_of(name: str) -> str:
    """An operator in words; its backward is the same kind."""
    plain = name.partition("::")[2].strip("_").removeprefix("native_").removesuffix("_legit").removesuffix("_backward")
    for part in ("cudnn_", "mkldnn_", "miopen_"):
        plain = plain.removeprefix(part)
    for word in ("batch_norm", "convolution"):
        plain = word if word in plain and "::" in name and not name.startswith("gancore::") else plain
    return _KINDS.get(plain, plain.removesuffix("_backward").replace("_", " ").strip())


def ranked(
    calls: Sequence[Call], steps: int, scale: float, step: float, machine: Mapping[str, float],
    players: Mapping[str, nn.Module], compiled: bool,
) -> list[Loss]:  # fmt: skip
    """All losses, the largest first, and as one of them what lies between the operators.

    scale: from traced seconds to those of a step without tracing. step: seconds of such a step.
    """
    groups: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        layer = call.layer.removeprefix("after ") if kind_of(call.name) in _NORMS else call.layer
        groups.setdefault((kind_of(call.name), layer), []).append(call)
    found = []
    why = Reasons(players, compiled)
    for (kind, layer), members in groups.items():
        seconds = scale * sum(c.seconds for c in members) / steps
        least = sum(least_seconds(c.moved, c.operations, dict(machine)) for c in members) / steps
        bytes_, work = (sum(getattr(c, key) for c in members) / steps for key in ("moved", "operations"))
        bound = "traffic" if bytes_ / machine["copy"] >= work / machine["rate"] else "arithmetic"
        where = f" in {layer}" if layer and not layer.startswith("after ") else f" {layer}" if layer else ""
        told = f"{seconds / step:.0%} of the step is {kind} {bound}{where}: {ms(seconds)} where {ms(least)} would do"
        sentence = f"{told}; {why.of(kind, layer, members)}"
        found.append(Loss(kind, layer, seconds / step, seconds, least, len(members) / steps, sentence))
    between = max(0.0, step - sum(loss.seconds for loss in found))
    told = f"{between / step:.0%} of the step lies between the operators, in Python, autograd and dispatch: {ms(between)}"
    found.append(Loss("between operators", "", between / step, between, 0.0, 0.0, f"{told}; {why.between()}"))
    return sorted(found, key=lambda loss: -loss.lost)


def ms(seconds: float) -> str:
    """Seconds in milliseconds or microseconds."""
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"


class Reasons:
    """Why an operator takes what it takes, from what acceleration, dispatch and the compiler say of it."""

    def __init__(self, players: Mapping[str, nn.Module], compiled: bool) -> None:
        self.players, self.compiled = players, compiled
        self.rows = {
            f"{player}.{place}": row for player, net in players.items() for row in analyse(net)[1] for place in row.places
        }  # fmt: skip

    def of(self, kind: str, layer: str, calls: Sequence[Call]) -> str:
        """The reason, as the end of a sentence."""
        name = calls[0].name
        if name.startswith("gancore::"):
            return "it is one of gancore's operators, and reads and writes what it must through this machine's caches"
        if kind in ("convolution", "matrix product") or "mm" in kind.split():
            return "it is the library's own, and its shapes or this many threads reach no more of the machine's rate"
        if not name.startswith("aten::"):
            return f"{name} is an operator of its own, which nothing fuses"
        if not any(c.moved for c in calls):
            return "it moves nothing, and all of it is dispatch"
        if kind not in (*_NORMS, *_ACTS):
            return self._alone()
        row = self.rows.get(layer.removeprefix("after ")) or self._before(layer.removeprefix("after "))
        if row is not None and not row.operator and "cannot be traced" not in row.reason:
            return f"not fused with {row.places[0]} because {row.reason}"
        if row is not None and row.operator:
            return f"not fused because the network calls it by itself; gancore.accelerate runs {' + '.join(row.places)} as one"
        return self._alone()

    def _alone(self) -> str:
        outside = "it lies outside of what is compiled" if self.compiled else "each operator runs by itself: compile is off"
        return f"not fused because {outside}"

    def _before(self, layer: str) -> Any:
        """The row of the last convolution that the player defines with the same index, or before this layer."""
        player, _, path = layer.partition(".")
        net = self.players.get(player)
        if net is None:
            return None
        index = path.rpartition(".")[2]
        last = None
        for name, module in net.named_modules():
            if isinstance(module, torch.nn.modules.conv._ConvNd):
                row = self.rows.get(f"{player}.{name}")
                if row is not None and index.isdigit() and name.rpartition(".")[2] == index:
                    return row
                last = row or last
            if name == path:
                return last
        return None

    def between(self) -> str:
        """Why time passes between operators."""
        if self.compiled:
            return "a larger batch gives each operator more to do"
        return "a larger batch gives each operator more to do, and compile=reduce-overhead replays a GPU's step as one graph"
