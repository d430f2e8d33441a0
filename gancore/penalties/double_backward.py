"""Whether a module gives right second derivatives, which gradient penalties are made of.

With f the sum of the module's outputs times fixed random numbers and v a fixed random direction of its inputs x, a penalty's
backward needs the derivative of <df/dx, v> by inputs and parameters. Autograd gives it by a backward through the backward. It is
also how df/dx and df/dparameters change along v, which takes first derivatives alone:

    d<df/dx, v> = (df(x + h v) - df(x - h v)) / 2h + O(h^2)

A fused operator whose backward is a raw kernel raises nothing when it is differentiated again: gradients come out None, or lack
terms. Against the difference both show.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call

BOUNDS = {torch.float64: 1e-5, torch.float32: 1e-2}  # largest relative error, by the type of the inputs
BOUND = 0.15  # of narrower ones
STEPS = {torch.float64: (1e-3, 1e-4, 1e-5, 1e-6)}  # h over the size of the inputs: a kink on the way spoils one of them
WIDE_STEPS = (1e-1, 1e-2, 1e-3)  # of other types
ZERO = {torch.float64: 1e-6}  # what of the largest derivative counts as none
WIDE_ZERO = 1e-3


@dataclass(frozen=True)
class SecondDerivatives:
    """What `check_double_backward` found; true where all is right.

    errors: relative error by parameter and input ("input 0"), infinite where a derivative is missing that is not zero. reason: what
    is wrong, in words; empty where nothing is.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        if self:
            return f"second derivatives are right: largest error {max(self.errors.values(), default=0.0):.1e}"
        return f"second derivatives are wrong: {self.reason}"


def check_double_backward(module: Callable[..., Any], *inputs: Any, bound: float | None = None) -> SecondDerivatives:
    """Whether `module(*inputs)` can be put under a gradient penalty: are its second derivatives right?

    module: any nn.Module, or a function of tensors, that returns a tensor or a tuple of them; nothing of it is changed. It runs on
    a fixed random state. inputs: as in a call, of any shape, best small; those that are floating tensors are differentiated, and
    the check is made in their type and on their device. bound: the largest relative error that passes, by default 1e-5 in float64,
    1e-2 in float32 and 0.15 in narrower types.

    First derivatives are trusted: second ones are held against differences of them, taken in float64 where the module runs in it
    and has the same first derivatives there.

    Raises ValueError where no input can be differentiated by. An operator that refuses its second derivative is reported.
    """
    run = _Run(module, inputs)
    found, reason = run.second()
    if reason:
        return SecondDerivatives(reason=reason)
    bound = BOUNDS.get(run.kind, BOUND) if bound is None else bound
    other = _wider(run)
    truths = list(_differences(other))
    zero = ZERO.get(other.kind, WIDE_ZERO)
    errors = {name: min(_error(g, truth, name, zero) for truth in truths) for name, g in found.items()}
    wrong = {name: e for name, e in errors.items() if not e <= bound}
    if not wrong:
        return SecondDerivatives(errors)
    worst = max(wrong, key=lambda name: math.inf if math.isnan(wrong[name]) else wrong[name])
    what = "missing" if math.isinf(wrong[worst]) else f"{wrong[worst]:.1%} off"
    return SecondDerivatives(errors, f"of {len(errors)} gradients {len(wrong)} are wrong; that of {worst!r} is {what}")


class _Run:
    """A module on given inputs, as a function of its leaves: inputs and parameters by name."""

    def __init__(self, module: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self.module, self.inputs = module, inputs
        self.points = {f"input {i}": x for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.is_floating_point()}
        if not self.points:
            raise ValueError("check_double_backward: inputs got no floating tensor, wants one at least to differentiate by")
        self.kind = next(iter(self.points.values())).dtype
        parameters = module.named_parameters() if isinstance(module, nn.Module) else ()
        self.parameters = {name: p for name, p in parameters if p.requires_grad}
        generator = torch.Generator().manual_seed(0)
        self.v = {name: torch.randn(x.shape, generator=generator).to(x) for name, x in self.points.items()}

    def to(self, kind: torch.dtype) -> "_Run":
        """The same in another type, along the same v."""
        module = copy.deepcopy(self.module).to(kind) if isinstance(self.module, nn.Module) else self.module
        return _Run(module, tuple(x.to(kind) if isinstance(x, Tensor) and x.is_floating_point() else x for x in self.inputs))

    def leaves(self, step: float = 0.0) -> dict[str, Tensor]:
        """Copies to differentiate by, the inputs moved along v."""
        moved = {name: x.detach() + step * self.v[name] for name, x in self.points.items()}
        return {name: t.detach().clone().requires_grad_() for name, t in {**moved, **self.parameters}.items()}

    def value(self, leaves: Mapping[str, Tensor]) -> Tensor:
        """f (), in float32 or wider."""
        inputs = tuple(leaves.get(f"input {i}", x) for i, x in enumerate(self.inputs))
        devices = {x.device for x in self.points.values() if x.device.type == "cuda"}
        with torch.random.fork_rng(list(devices)):
            torch.manual_seed(0)
            result = self._call(leaves, inputs)
        generator = torch.Generator().manual_seed(1)
        total = torch.zeros((), device=inputs[0].device if isinstance(inputs[0], Tensor) else None)
        for y in (result,) if isinstance(result, Tensor) else result:
            if isinstance(y, Tensor) and y.is_floating_point():
                y = y.to(torch.promote_types(y.dtype, torch.float32))
                total = total + (y * torch.randn(y.shape, generator=generator).to(y)).sum()
        if not total.requires_grad:
            raise ValueError("check_double_backward: module got inputs that no output depends on, differentiably")
        return total

    def _call(self, leaves: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Any:
        if not isinstance(self.module, nn.Module):
            return self.module(*inputs)
        buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        return functional_call(self.module, {**buffers, **{name: leaves[name] for name in self.parameters}}, inputs)

    @torch.enable_grad()
    def first(self, step: float = 0.0) -> dict[str, Tensor]:
        """df by name, at x + step v."""
        leaves = self.leaves(step)
        found = grad(self.value(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    @torch.enable_grad()
    def second(self) -> tuple[dict[str, Tensor | None], str]:
        """d<df/dx, v> by name, by a backward through the backward, None for what is missing; and what that raised."""
        leaves = self.leaves()
        points = [leaves[name] for name in self.points]
        value = self.value(leaves)
        try:
            inner = grad(value, points, create_graph=True, allow_unused=True, materialize_grads=True)
            along = torch.stack([(g.to(value.dtype) * v).sum() for g, v in zip(inner, self.v.values(), strict=True)]).sum()
            if not along.requires_grad:
                return dict.fromkeys(leaves), ""
            found = grad(along, list(leaves.values()), allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            return {}, f"the double backward raises {type(error).__name__}: {error}"
        return dict(zip(leaves, found, strict=True)), ""


def _wider(run: _Run) -> _Run:
    """The run to take differences of: in the widest type that the module runs in with the same first derivatives."""
    first = run.first()
    bound = BOUND if run.kind not in BOUNDS else 10 * BOUNDS[torch.float32]
    for kind in (torch.float64, torch.float32):
        if torch.finfo(kind).bits <= torch.finfo(run.kind).bits:
            break
        try:
            other = run.to(kind)
            theirs = other.first()
        except (RuntimeError, TypeError, NotImplementedError, ValueError):
            continue  # many operators do not take it
        if all(_error(g, theirs, name, WIDE_ZERO) <= bound for name, g in first.items()):
            return other
    return run


def _differences(run: _Run) -> Iterator[dict[str, Tensor]]:
    """d<df/dx, v> by name, once for each step."""
    size = max(float(x.detach().double().square().mean().sqrt()) if x.numel() else 0.0 for x in run.points.values()) or 1.0
    for step in STEPS.get(run.kind, WIDE_STEPS):
        h = step * size
        after, before = run.first(h), run.first(-h)
        yield {name: (after[name].double() - before[name].double()) / (2 * h) for name in after}


def _error(found: Tensor | None, truth: Mapping[str, Tensor], name: str, zero: float) -> float:
    """Relative error of one derivative; what is `zero` of the largest of all has none."""
    expected = truth[name].double()
    least = zero * max(float(t.double().norm()) for t in truth.values())
    if found is None:
        return math.inf if float(expected.norm()) > least else 0.0
    apart = float((found.detach().double() - expected).norm())
    return 0.0 if apart <= least else apart / max(float(expected.norm()), least)
