"""The passes through a recorded critic: each goes once through its nodes."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from gancore.penalties.passes.node import ALL, Curve, Node, added
from gancore.penalties.passes.pointwise import Activation
from gancore.penalties.passes.products import Product
from gancore.penalties.passes.record import Recorder


class Plan:
    """A critic's nodes between its points and its score, and the passes through them in their order.

    start: the first of the rows that a penalty is at; these come last in the batch. share: whether the loss's own gradient joins
    the weight gradients there (see `Curve`). seeded: whether it comes back in the last pass instead, through all nodes.
    """

    def __init__(self, recorder: Recorder, points: int, score: int, start: int, share: bool, seeded: bool) -> None:
        self.points, self.score = points, score
        wanted = {score}
        for node in reversed(recorder.nodes):
            if node.output in wanted:
                wanted.update(node.inputs)
        self.nodes = [node for node in recorder.nodes if node.output in wanted]
        self.tail = slice(start, recorder.rows)
        self.penalised = start < recorder.rows
        self.share, self.seeded = share, seeded
        self._look()

    def _look(self) -> None:
        """What is known of each value before there are numbers."""
        self.uses: Counter[int] = Counter(i for node in self.nodes for i in node.inputs)
        self.uses[self.score] += 1
        maker = {node.output: node for node in self.nodes}
        # Values that some trained operand comes before: their gradient is needed on all rows, that of others on the tail.
        self.learned: set[int] = set()
        for node in self.nodes:
            if any(p.requires_grad for p in node.operands) or self.learned.intersection(node.inputs):
                self.learned.add(node.output)
        # Values that some curved step comes after: the last pass comes back to them.
        self.bent: set[int] = wanted_everywhere(self.nodes) if self.seeded else set()
        for node in reversed(self.nodes):
            if self.penalised and (node.curved or node.output in self.bent):
                self.bent.update(node.inputs)
        # Values whose memory the last pass reads, and those that may be views of it: tangents do not take their place.
        kept = set(self.bent)
        for node in self.nodes:
            if (self.penalised and node.curved) or (not node.fresh and kept.intersection(node.inputs)):
                kept.add(node.output)
        self.over = {
            node.output: bool(
                node.overwrites and node.inputs[0] in maker and maker[node.inputs[0]].fresh and self.uses[node.inputs[0]] == 1
            )
            for node in self.nodes
        }
        readers: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(node, Product):
                node.keep = node.inputs[0] in kept
            for i in node.inputs:
                readers[i].append(node)
        # Where the tangent may take the place of an activation's penalised rows at once: weight gradients want it there.
        self.slots = {
            v
            for v, nodes in readers.items()
            if not self.share and v not in kept and any(isinstance(n, Product) and n.operands[0].requires_grad for n in nodes)
        }

    def forward(self, points: list[Tensor]) -> Tensor:
        """The scores of all rows."""
        values: dict[int, Tensor] = dict(enumerate(points))
        left = self.uses.copy()
        for node in self.nodes:
            y = node.forward([values[i] for i in node.inputs], self.over[node.output])
            for i in node.inputs:
                left[i] -= 1
                if not left[i]:
                    values.pop(i, None)
            values[node.output] = y
            del y
        return values[self.score]

    def back(self, seed: Tensor) -> list[Tensor | None]:
        """Send dD/dscore back; returns dD/dpoint on the tail. Leaves in each node what its operands learn from."""
        deltas: dict[int, Tensor] = {self.score: seed if self.score in self.learned else seed[self.tail]}
        held: set[int] = {self.score}  # values whose gradient others may hold too
        for node in reversed(self.nodes):
            g = deltas.pop(node.output, None)
            if g is None:  # nobody learns from here on
                continue
            kept = node.curved or any(p.requires_grad for p in node.operands)
            node.delta = g if kept else None
            single = len(node.inputs) == 1 and node.output not in held and not kept
            for k, i in enumerate(node.inputs):
                if i not in self.learned and not self.penalised:
                    continue
                whole = i in self.learned
                cut = ALL if whole or node.output not in self.learned else self.tail
                rows = ALL if whole else self.tail
                found = node.adjoint(g[cut], k, rows, single)
                shared = node.shares() and (node.output in held or kept or len(node.inputs) > 1)
                if i in deltas:
                    deltas[i] = deltas[i] + found if i in held else deltas[i].add_(found)
                    held.discard(i)
                else:
                    deltas[i] = found
                    if shared:
                        held.add(i)
            del g
        return [deltas.get(i) for i in range(self.points)]

    def forth(self, directions: list[Tensor | None], share: Tensor | None) -> dict[int, Tensor]:
        """Send tangents of the points forth; returns what operands learn by their id."""
        merged: set[int] = set()
        tangents: dict[int, Tensor | None] = dict(enumerate(directions))
        learned: dict[int, Tensor] = {}
        left = self.uses.copy()
        for node in self.nodes:
            ts = [tangents[i] for i in node.inputs]
            y = None
            if any(t is not None for t in ts):
                out = None
                if node.output in self.slots and isinstance(node, Activation) and node.act.from_output:
                    out = node.kept[self.tail]
                y = node.tangent(ts, self.tail, out)
            for i in node.inputs:
                left[i] -= 1
                if not left[i]:
                    tangents.pop(i)
            tangents[node.output] = y
            if node.operands and node.delta is not None:
                self._learn(node, node.learn(Curve(self.tail, share, ts[0]), merged), learned)
            if node.curved:
                node.tangents = tuple(ts)
            else:
                node.delta = None
        return learned

    def last(self, seed: Tensor | None, learned: dict[int, Tensor]) -> None:
        """Send back what curved steps add; operands before them learn from it. seed: of the score, None for zero."""
        betas: dict[int, Tensor | None] = {self.score: seed}
        for node in reversed(self.nodes):
            beta = betas.pop(node.output, None)
            if beta is not None and node.operands and node.output in self.learned:
                self._learn(node, node.again(beta, self.tail), learned)
            for k, i in enumerate(node.inputs):
                if i not in self.learned:
                    continue
                found = None if beta is None else node.adjoint(beta, k, self.tail, False)
                if node.curved and node.tangents and node.tangents[k] is not None:
                    assert node.delta is not None
                    found = added(found, node.bend(node.delta[self.tail], node.tangents, self.tail))
                if found is not None:
                    betas[i] = added(betas.get(i), found)
            node.tangents, node.delta = (), None

    def _learn(self, node: Node, gradients: Sequence[Tensor | None], learned: dict[int, Tensor]) -> None:
        for operand, found in zip(node.operands, gradients, strict=True):
            if found is None or not operand.requires_grad:
                continue
            before = learned.get(id(operand))
            learned[id(operand)] = found.to(operand.dtype) if before is None else before.add_(found)

    def operands(self) -> dict[int, Tensor]:
        """All operands that learn, by id."""
        return {id(p): p for node in self.nodes for p in node.operands if p.requires_grad}


def wanted_everywhere(nodes: list[Node]) -> set[int]:
    """All values."""
    return {v for node in nodes for v in (*node.inputs, node.output)}


def record(critic: object, points: list[Tensor], conditions: tuple[Tensor, ...]) -> tuple[Recorder, Tensor]:
    """The critic's nodes for a batch of these points, and what stands for its score."""
    rows = len(points[0])
    recorder = Recorder(critic, rows, points[0].device)  # type: ignore[arg-type]
    given = [recorder.value(p.shape, p.dtype) for p in points]
    with torch.enable_grad(), recorder:
        score = critic(*given, *conditions)  # type: ignore[operator]
    if recorder.index(score) is None:
        got = f"a tensor of shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        recorder.refuse(f"returns {got} that critic_step has not seen come from its points")
    return recorder, score
