"""Operators of a step from a Chrome trace of torch.profiler: their time, phase and layer, and the memory over time."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gancore.profiling.clock import PREFIX
from gancore.profiling.counts import LAYER, Counts

_OUTSIDE = ("data", "optimiser", "EMA", "logging")  # of all layers
_BACKWARD = "autograd::engine::evaluate_function"


@dataclass
class Node:
    """An event of one thread and those within it."""

    event: dict[str, Any]
    parent: "Node | None"
    children: list["Node"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.event["name"])

    @property
    def sequence(self) -> int | None:
        """The number that a forward operator shares with its backward."""
        number = self.event.get("args", {}).get("Sequence number")
        return None if number is None or number < 0 else int(number)

    def above(self) -> Iterator["Node"]:
        """Itself and what it lies in, from the inside out."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True)
class Call:
    """A call of an operator. seconds: its own and those of what it calls; on a GPU those of its kernels."""

    name: str
    phase: str
    layer: str
    backward: bool
    seconds: float
    moved: float
    operations: float


@dataclass(frozen=True)
class Trace:
    """The calls of a trace, its length in seconds, and (seconds, bytes allocated since its start) over time."""

    calls: tuple[Call, ...]
    seconds: float
    memory: tuple[tuple[float, float], ...]


def read(path: Path, counts: Counts) -> Trace:
    """A trace that `torch.profiler` wrote, with shapes. The operators are those that `counts` saw."""
    events = json.loads(path.read_text())["traceEvents"]
    spans = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("cpu_op", "user_annotation")]
    kernels: dict[int, float] = defaultdict(float)
    for e in events:
        if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset") and "External id" in e.get("args", {}):
            kernels[e["args"]["External id"]] += e["dur"] / 1e6
    nodes = sorted((n for root in _trees(spans) for n in _walk(root)), key=lambda n: n.event["ts"])
    layers = _layers(nodes)
    names = {name for name, _ in counts.found}
    taken = {id(n) for n in nodes if _is(n, names) and not any(_is(a, names) for a in list(n.above())[1:])}
    calls = [_call(n, layers, counts, kernels) for n in nodes if id(n) in taken]
    start = min(e["ts"] for e in spans)
    length = (max(e["ts"] + e["dur"] for e in spans) - start) / 1e6
    return Trace(tuple(calls), length, tuple(_memory(events, start)))


def _trees(spans: list[dict[str, Any]]) -> list[Node]:
    roots: list[Node] = []
    stacks: dict[Any, list[Node]] = defaultdict(list)
    for e in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
        stack = stacks[e["tid"]]
        while stack and stack[-1].event["ts"] + stack[-1].event["dur"] < e["ts"] + e["dur"]:
            stack.pop()
        node = Node(e, stack[-1] if stack else None)
        (node.parent.children if node.parent else roots).append(node)
        stack.append(node)
    return roots


def _walk(node: Node) -> Iterator[Node]:
    todo = [node]
    while todo:
        found = todo.pop()
        yield found
        todo += found.children


def _is(node: Node, names: set[str]) -> bool:
    return node.event["cat"] == "cpu_op" and node.name in names


def _layers(nodes: list[Node]) -> dict[int, str]:
    """The layer of each event: that of the range around it, or of the forward whose backward it is part of."""
    found: dict[int, str] = {}
    made: dict[int, str] = {}  # by sequence number
    for node in nodes:
        layer = ""
        for outer in node.above():
            if outer.name.startswith(LAYER):
                layer = outer.name.removeprefix(LAYER)
            elif outer.name.startswith(_BACKWARD):
                layer = made.get(outer.sequence if outer.sequence is not None else -1, "")
            if layer:
                break
        found[id(node)] = layer
        if node.sequence is not None and layer and not node.name.startswith("autograd::"):
            made[node.sequence] = layer
    return found


def _call(node: Node, layers: dict[int, str], counts: Counts, kernels: dict[int, float]) -> Call:
    above = list(node.above())
    phase = next((a.name.removeprefix(PREFIX) for a in above if a.name.startswith(PREFIX)), "")
    backward = any(a.name.startswith(_BACKWARD) for a in above)
    moved, operations = counts.of(node.name, str(list(_dims(node.event.get("args", {}).get("Input Dims", [])))))
    seconds = node.event["dur"] / 1e6
    if kernels:
        seconds = sum(kernels.get(n.event.get("args", {}).get("External id", -1), 0.0) for n in _walk(node))
    # A device's autograd runs in a thread of its own, which no span encloses.
    layer = "" if phase in _OUTSIDE else layers[id(node)]
    return Call(node.name, phase or "backward", layer, backward, seconds, moved, operations)


def _dims(value: Any) -> Iterator[list[int]]:
    for part in value:
        if part and all(isinstance(n, int) for n in part):
            yield part
        elif part:
            yield from _dims(part)


def _memory(events: list[dict[str, Any]], start: float) -> Iterator[tuple[float, float]]:
    """Growth and shrinkage as the allocators report it; where a GPU does, its own alone."""
    changes = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    device = max((e["args"].get("Device Type", 0) for e in changes), default=0)
    total = 0.0
    for e in changes:
        if e["args"].get("Device Type", 0) == device:
            total += e["args"].get("Bytes", 0)
            yield max(0.0, (e["ts"] - start) / 1e6), total


def thinned(memory: tuple[tuple[float, float], ...], most: int = 600) -> list[tuple[float, float]]:
    """At most so many points of memory over time, the highest of each stretch."""
    if len(memory) <= most:
        return list(memory)
    ends = [memory[0][0] + (memory[-1][0] - memory[0][0]) * (i + 1) / most for i in range(most)]
    times = [t for t, _ in memory]
    cuts = [0, *(bisect_right(times, end) for end in ends)]
    return [max(memory[a:b], key=lambda p: p[1]) for a, b in pairwise(cuts) if b > a]
