"""How modules that stay in their places run as one operator.

The members of a run get a subclass of their class. While the module that owns the run is called, its first member runs the
operator and each other one hands on what it is given, provided that this is what the operator returned; at all other times, and
for all other tensors, every member does what it always did. Two hooks on the owner begin and end this. All that is stored are
names, so that copies, pickles, replicas and exchanged modules find what is their own.
"""

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gancore.acceleration.places import Run
from gancore.layers import units
from gancore.layers.units import Unit

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Turn:
    """One pass through one run: the operator's result, and who is the next to receive it."""

    def __init__(self, owner: nn.Module, modules: list[Unit], members: list[nn.Module]) -> None:
        self.owner, self.units, self.members = owner, modules, members
        conv: Any = modules[0].conv
        self.rank = len(conv.kernel_size) + 2
        self.started, self.next = False, 0
        self.y: Tensor | None = None  # while somebody has still to receive it

    def take(self, module: nn.Module, x: Any) -> Tensor | None:
        """The result of `module` at `x` as a member of the run, or None where it is to run by itself."""
        if module is not self.members[self.next]:
            return None
        if self.started:
            if x is not self.y:
                return None
            y = x
        else:
            if not isinstance(x, Tensor) or x.dim() != self.rank or not x.is_floating_point():
                return None
            self.started = True  # before the operator: a turn that an interrupt leaves behind is over
            y = units.fused(x, self.units)
        self.next = (self.next + 1) % len(self.members)
        self.y = y if self.next else None
        return y


def _thread() -> int:
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class Member(nn.Module):
    """What the classes of members have before their own."""

    _turns: dict[int, Turn] | None = None  # of each thread its own

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        turn = self._turns.get(_thread()) if self._turns else None
        if turn is not None and len(args) == 1 and not kwargs:
            y = turn.take(self, args[0])
            if y is not None:
                return y
        return super().forward(*args, **kwargs)


def _member(kind: type) -> type:
    return type(f"Fused{kind.__name__}", (Member, kind), {"__module__": __name__, "__doc__": f"{kind.__name__}, in a run."})


_MEMBERS = {kind: _member(kind) for kind in (*CONVS, *TRANSPOSED, *NORMS, *ACTIVATIONS)}
globals().update({kind.__name__: kind for kind in _MEMBERS.values()})  # where pickle looks for them


def install(owner: nn.Module, runs: list[Run]) -> None:
    """Let `owner` run these as operators from now on."""
    for run in runs:
        for name in run.members:
            _change_class(owner.get_submodule(name))
    owner._fused_runs = tuple(runs)  # type: ignore[assignment]
    owner.register_forward_pre_hook(_begin)
    owner.register_forward_hook(_end, always_call=True)


def uninstall(module: nn.Module) -> None:
    """Undo what `install` did to `module`, as an owner and as a member."""
    if isinstance(module, Member):
        _change_class(module, back=True)
    if vars(module).pop("_fused_runs", None) is not None:
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in (_begin, _end)]:
                del hooks[key]
                module._forward_hooks_always_called.pop(key, None)


def _change_class(module: nn.Module, back: bool = False) -> None:
    parametrized = is_parametrized(module)
    now: Any = type(module).__bases__[0] if parametrized else type(module)
    if issubclass(now, Member) != back:
        return
    new: Any = now.__bases__[1] if back else _MEMBERS[now]
    if parametrized:
        # Such a module has a class of its own, above that which it had; taking the parametrisation off leads back to that one.
        type(module).__bases__ = (new,)
    else:
        module.__class__ = new
    # torch.fx takes a module for a leaf by where its class says that it was written.
    vars(module).pop("__module__", None)
    vars(module).pop("_turns", None)
    if not back:
        vars(module).update({"__module__": now.__module__, "_turns": {}})


def _begin(owner: Any, args: Any) -> None:
    if units.leaving():
        return
    thread = _thread()
    for run in owner._fused_runs:
        intact = _intact(owner, run)
        if intact is None:
            continue
        members, modules = intact
        outer: Turn | None = members[0]._turns.get(thread)
        if outer is not None and outer.owner is not owner:
            continue  # part of a longer run, whose owner is being called
        turn = Turn(owner, modules, members)
        for member in members:
            member._turns[thread] = turn


def _end(owner: Any, args: Any, result: Any) -> None:
    lost, thread = None, _thread()
    for run in owner._fused_runs:
        for name in run.members:
            turns = getattr(_find(owner, name), "_turns", None)
            if turns and thread in turns and turns[thread].owner is owner:
                lost = lost or (name if turns.pop(thread).y is not None else None)
    if lost is not None and result is not None:
        raise RuntimeError(
            f"{type(owner).__name__}: {lost} runs as one operator with modules that did not receive its result: forward has taken "
            "another path than when gancore.accelerate saw it; accelerate the model again, or use gancore.restore"
        )


def _intact(owner: nn.Module, run: Run) -> tuple[list[Any], list[Unit]] | None:
    """The run's modules, unless one was exchanged, has hooks or an option that the operator lacks, or a switch has changed."""
    for place, name, value in run.switches:
        now = getattr(_find(owner, place), name, None)
        if type(now) is not type(value) or now != value:
            return None
    for name in run.around:
        module = _find(owner, name)
        if module is None or hooked(module):
            return None
    members, found = [], []
    for names in run.units:
        conv, norm, act = (_find(owner, name) if name else None for name in names)
        for name, module in zip(names, (conv, norm, act), strict=True):
            if name and (not isinstance(module, Member) or module._turns is None or units.hooked(module)):
                return None
            if name:
                members.append(module)
        named = units.activation(act)
        kinds = TRANSPOSED if norm is not None or len(run.units) > 1 else CONVS + TRANSPOSED
        if not isinstance(conv, kinds) or not isinstance(norm, (*NORMS, type(None))):
            return None
        if named is None or units.padding(conv) is None:
            return None
        found.append(Unit(conv, norm, *named))
    return members, found


def _find(module: Any, name: str) -> Any:
    for part in name.split(".") if name else ():
        module = None if module is None else module._modules.get(part)
    return module


def hooked(module: nn.Module) -> bool:
    """Whether others than `install` have registered hooks on a module."""
    if not hasattr(module, "_fused_runs"):
        return units.hooked(module)
    foreign = [hook for hooks in (module._forward_pre_hooks, module._forward_hooks) for hook in hooks.values()]
    return any(hook not in (_begin, _end) for hook in foreign) or bool(module._backward_hooks or module._backward_pre_hooks)
