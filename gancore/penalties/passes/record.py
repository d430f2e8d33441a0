"""What a critic's forward does with its points, as nodes.

The forward is called once, on tensors of the meta device that stand for the batch: they have shapes and types and no numbers. A
function mode sees each of PyTorch's functions that is given one of them and makes a node of it by `rules`; all else runs as it is,
so that weights behind parametrisations come with their graph. What has no rule raises, and so does whatever could pass by unseen:
results that autograd traces back to a point, and parts under no_grad.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancore.penalties.passes.node import Node

_WAY_OUT = "gancore.penalties.gradient_penalty serves any differentiable critic"
_T: Any = torch.Tensor
_ABOUT = {
    *(getattr(_T, name).__get__ for name in ("shape", "dtype", "ndim", "requires_grad", "layout")),
    *(getattr(_T, name) for name in ("size", "dim", "numel", "nelement", "ndimension", "element_size", "__len__")),
    *(getattr(place, name) for name in ("is_floating_point", "is_complex", "numel") for place in (_T, torch)),
}
_PLACE = {_T.device.__get__, _T.is_cuda.__get__, _T.is_cpu.__get__, _T.get_device}


class Recorder(TorchFunctionMode):
    """The nodes so far. rows: of the batch. device: where the points really are."""

    def __init__(self, critic: Callable[..., Tensor], rows: int, device: torch.device) -> None:
        super().__init__()
        self.critic, self.rows, self.device = critic, rows, device
        self.nodes: list[Node] = []
        self.count = 0
        self.owners: dict[int, int] = {}  # value -> that of which it may be a view

    # -- values ----------------------------------------------------------------------------------------------------------------

    def value(self, sizes: Iterable[int], dtype: torch.dtype) -> Tensor:
        """A stand-in for a tensor of all rows."""
        # A leaf, so that autograd shows who has taken it past this mode.
        stand_in = torch.empty(tuple(sizes), dtype=dtype, device="meta").requires_grad_()
        stand_in._place = (self, self.count)  # type: ignore[attr-defined]
        self.count += 1
        return stand_in

    def index(self, x: Any) -> int | None:
        """The number of the value that x stands for; None for all else."""
        place = getattr(x, "_place", None) if isinstance(x, Tensor) else None
        return place[1] if place is not None and place[0] is self else None

    def emit(self, node: Node, *inputs: Tensor, sizes: Iterable[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Add a node; returns what stands for its result, by default of the first input's shape and type."""
        if not torch.is_grad_enabled():
            self.refuse("takes a part out of the gradient with torch.no_grad")
        for operand in node.operands:
            self._outside(operand)
        y = self.value(inputs[0].shape if sizes is None else sizes, dtype or inputs[0].dtype)
        if y.dim() == 0 or y.shape[0] != self.rows:
            self.refuse(f"makes a tensor of shape {tuple(y.shape)}, in which samples do not stand apart")
        node.inputs = tuple(i for x in inputs if (i := self.index(x)) is not None)
        node.output = self.count - 1
        self.nodes.append(node)
        return y

    # -- what is seen ----------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        seen = [x for x in _flat((*args, *kwargs.values())) if self.index(x) is not None]
        if not seen:
            return func(*args, **kwargs)
        if func in _ABOUT:
            return func(*args, **kwargs)
        if func in _PLACE:
            return func(torch.empty(0, device=self.device))
        from gancore.penalties.passes.rules import rule_of

        rule = rule_of(func)
        if rule is None:
            self.refuse(f"calls {_name(func)}")
        return rule(self, *args, **kwargs)

    def refuse(self, what: str) -> NoReturn:
        """Say which module does what there is no rule for."""
        raise NotImplementedError(f"critic_step: {self._where()} {what}, for which it has no exact rule; {_WAY_OUT}")

    def _where(self) -> str:
        critic: Any = self.critic
        names = {id(m): name for name, m in critic.named_modules()} if isinstance(critic, nn.Module) else {}
        frame: Any = sys._getframe(2)
        while frame is not None:
            module = frame.f_locals.get("self")
            if id(module) in names and isinstance(module, nn.Module):
                name = names[id(module)]
                return f"layer {name!r} ({type(module).__name__})" if name else f"the critic ({type(module).__name__})"
            frame = frame.f_back
        return f"the critic ({getattr(critic, '__name__', type(critic).__name__)})"

    def _outside(self, operand: Tensor) -> None:
        """Refuse an operand that comes from the points by a way that no rule has seen."""
        if operand.device != self.device and operand.dim() > 0:
            self.refuse(f"multiplies or adds a tensor on {operand.device}, made by a function that critic_step does not see")
        pending, done = [operand.grad_fn], set()
        while pending:
            at = pending.pop()
            if at is None or at in done:
                continue
            done.add(at)
            if self.index(getattr(at, "variable", None)) is not None:
                self.refuse("uses its points in a function that critic_step does not see")
            pending += [n for n, _ in at.next_functions]


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for v in values:
        if isinstance(v, (list, tuple)):
            yield from _flat(v)
        else:
            yield v


def _name(func: Any) -> str:
    return f"{getattr(func, '__module__', '') or 'torch'}.{getattr(func, '__qualname__', getattr(func, '__name__', func))}"
