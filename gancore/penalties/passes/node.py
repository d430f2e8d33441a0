"""One step of a critic's forward pass, and what each of the passes of `critic_step` asks of it.

With y = f(h, w) for h of all rows, delta = dD/dy, and t the tangent of h on the penalised rows:

    forward   y
    adjoint   J^T g                                       gradients pass through it towards the input
    tangent   J t                                         the directional derivative of y
    bend      d<delta, J t> / dh                          where f is curved in h: the source of the last pass
    learn     d(loss + <delta, J t>) / dw                 by each operand w, at this step
    again     the same through what curved steps behind it send back, beta
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
ALL = slice(None)


class Curve(NamedTuple):
    """What a step with operands learns from. tail: the penalised rows, the last ones.

    share: the loss's own delta on the tail is share * delta, (tail, 1, ...) wide; None where the loss does not look at these
    rows. tangent: of the step's input, None for zero.
    """

    tail: slice
    share: Tensor | None
    tangent: Tensor | None


class Node:
    """A step with no operands, linear in its one input unless a subclass says otherwise.

    curved: its derivative varies with h. fresh: y is memory of its own, which it does not need again, so that who comes next may
    write over it. overwrites: it can write its result over an input that nobody else needs.
    """

    curved: ClassVar[bool] = False
    fresh: ClassVar[bool] = True
    overwrites: ClassVar[bool] = False

    def __init__(self) -> None:
        self.inputs: tuple[int, ...] = ()
        self.output = -1
        self.operands: tuple[Tensor, ...] = ()
        self.delta: Tensor | None = None
        self.tangents: tuple[Tensor | None, ...] = ()

    def forward(self, hs: list[Tensor], overwrite: bool) -> Tensor:
        """y; it may be written over hs[0] if `overwrite`."""
        raise NotImplementedError

    def adjoint(self, g: Tensor, i: int, rows: slice, overwrite: bool) -> Tensor:
        """J^T g in the i-th input for g of these rows; it may be written over g if `overwrite`."""
        raise NotImplementedError

    def tangent(self, ts: list[Tensor | None], rows: slice, out: Tensor | None = None) -> Tensor:
        """J t for tangents of these rows, of which one at least is not None; out: where an elementwise step may put it."""
        raise NotImplementedError

    def bend(self, delta: Tensor, ts: tuple[Tensor | None, ...], rows: slice) -> Tensor:
        """d<delta, J t> / dh."""
        raise NotImplementedError

    def learn(self, curve: Curve, merged: set[int]) -> list[Tensor | None]:
        """The gradient of each operand, None for one that has none; `delta` is that of all rows."""
        return []

    def again(self, beta: Tensor, tail: slice) -> list[Tensor]:
        """What each operand learns from beta besides."""
        return []

    def shares(self) -> bool:
        """Whether its adjoint is g itself, or memory of g: then several hold it, and nobody may write over it."""
        return False


def format_of(x: Tensor) -> torch.memory_format:
    """channels_last where x is."""
    kind = CHANNELS_LAST.get(x.dim())
    return kind if kind is not None and x.is_contiguous(memory_format=kind) else torch.contiguous_format


def keep_format(x: Tensor, like: Tensor) -> Tensor:
    """x in channels_last where `like` is: elementwise steps on two layouts are several times slower."""
    kind = format_of(like)
    return x if kind == torch.contiguous_format or x.dim() != like.dim() else x.contiguous(memory_format=kind)


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a + b, where None is zero."""
    return b if a is None else a if b is None else a + b


def loss_adjoint(delta: Tensor, curve: Curve) -> Tensor | None:
    """The loss's own gradient by y on the tail, None for zero."""
    return None if curve.share is None else delta[curve.tail] * along(curve.share, delta)


def along(share: Tensor, x: Tensor) -> Tensor:
    """A number a row, as wide as x and of its type."""
    return share.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


def merge(h: Tensor, curve: Curve, merged: set[int]) -> bool:
    """Write share * h + t over the tail of h, where nobody needs that any more; False where h is part of a larger tensor.

    Then one product of all deltas with h is the whole gradient of a weight. merged: storages where that is done; views share them.
    """
    storage = h.untyped_storage()
    if storage.data_ptr() in merged:
        return True
    if storage.nbytes() != h.numel() * h.element_size():
        return False
    slot, t = h[curve.tail], curve.tangent
    if curve.share is not None:
        slot.mul_(along(curve.share, h))
        if t is not None:
            slot.add_(t)
    elif t is None:
        slot.zero_()
    elif t.data_ptr() != slot.data_ptr():
        slot.copy_(t)
    merged.add(storage.data_ptr())
    return True
