"""The work of one comparison of critic updates: critics and points from a seed, bodies by name, the check against float64.

Every body of a case has the same weights and points, and gives the gradients of all parameters under loss and penalty.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from gancore.benchmarks.cases import Refused
from gancore.kernels._conv import products

_SEED = 2017
_LAST: dict[str, Any] = {"memory_format": torch.channels_last}
_WEIGHT = 10.0

LABELS = {
    "ours": "gancore",
    "eager": "eager",
    "last": "eager, channels_last",
    "last-compiled": "compiled torch.func.grad, channels_last",
    "bare": "bare convolutions",
}

# Of all gradients together, relative to their norm. Rounding moves values across the kink of LeakyReLU: in bfloat16 by percents.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.2}


@dataclass(frozen=True)
class Case:
    """One comparison, of plain values, so that another process can make the same one.

    net: "critic" (four 4x4 convolutions of stride 2), "resnet" (four residual blocks) or "resnet-norm" (with layer norm). penalty:
    "gp" (WGAN-GP) or "r1r2" (R1 + R2). side: of the images. width: channels of the first layer.
    """

    net: str = "critic"
    penalty: str = "gp"
    batch: int = 32
    dtype: str = "float32"
    side: int = 64
    width: int = 64
    device: str = "cpu"


def describe(case: Case) -> str:
    """The case in words."""
    nets = {"critic": "critic", "resnet": "ResNet critic", "resnet-norm": "ResNet critic with layer norm"}
    penalties = {"gp": "WGAN-GP", "r1r2": "R1 + R2"}
    return f"{nets[case.net]}, 3x{case.side}x{case.side}, {penalties[case.penalty]}, {case.dtype}, batch {case.batch}"


# -- critics -----------------------------------------------------------------------------------------------------------------


class _Block(nn.Module):
    """A residual block of WGAN-GP's critic (arXiv:1704.00028, appendix F), which halves the sides."""

    def __init__(self, inputs: int, outputs: int, side: int, norm: bool) -> None:
        super().__init__()
        before = lambda channels: [nn.LayerNorm([channels, side, side])] if norm else []
        self.body = nn.Sequential(
            *before(inputs), nn.ReLU(), nn.Conv2d(inputs, inputs, 3, 1, 1),
            *before(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 3, 1, 1), nn.AvgPool2d(2),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


def network(case: Case) -> nn.Module:
    """The critic, with weights from the seed."""
    torch.manual_seed(_SEED)
    channels = [case.width * 2**i for i in range(4)]
    side = case.side // 16
    if case.net == "critic":
        convs = [m for a, b in pairwise([3, *channels]) for m in (nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))]
        return nn.Sequential(*convs, nn.Flatten(), nn.Linear(channels[-1] * side**2, 1)).to(case.device)
    sizes = [(a, b, case.side >> i) for i, (a, b) in enumerate(pairwise([*channels, channels[-1]]))]
    blocks = [_Block(*size, case.net == "resnet-norm") for size in sizes]
    return nn.Sequential(
        nn.Conv2d(3, channels[0], 3, 1, 1), *blocks, nn.ReLU(), nn.Flatten(), nn.Linear(channels[-1] * side**2, 1)
    ).to(case.device)  # fmt: skip


def points(case: Case) -> dict[str, Tensor]:
    """real, fake and the shares that mix them."""
    generator = Generator().manual_seed(_SEED + 1)
    sizes = {"real": (case.batch, 3, case.side, case.side), "fake": (case.batch, 3, case.side, case.side), "eps": (case.batch,)}
    return {name: torch.rand(size, generator=generator).to(case.device) for name, size in sizes.items()}


def _cast(case: Case) -> AbstractContextManager[Any]:
    return torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16")


# -- bodies ------------------------------------------------------------------------------------------------------------------


class Body:
    """A case's update by one body; calling it gives all gradients by name."""

    def __init__(self, case: Case, name: str) -> None:
        self.case, self.name = case, name
        self.critic, self.points = network(case), points(case)
        if name != "eager":
            self.critic = self.critic.to(**_LAST)
            self.points = {k: v.to(**_LAST) if v.dim() == 4 else v for k, v in self.points.items()}
        self.run: Callable[[], None] | None = {"ours": self._ours, "eager": self._eager, "last": self._eager}.get(name)
        self.compiled = torch.compile(self._functional, fullgraph=True, dynamic=False) if self.run is None else None

    @property
    def settings(self) -> dict[str, Any]:
        """The penalty, as `critic_step` takes it."""
        if self.case.penalty == "gp":
            return {"penalty": {"between": _WEIGHT}, "center": 1.0}
        return {"penalty": {"real": _WEIGHT, "fake": _WEIGHT}, "center": 0.0}

    def __call__(self) -> dict[str, Tensor]:
        if self.compiled is not None:
            parameters = {name: p.detach() for name, p in self.critic.named_parameters()}
            with _cast(self.case):
                found: dict[str, Tensor] = self.compiled(parameters, *self.points.values())
            return found
        assert self.run is not None
        self.critic.zero_grad()
        with _cast(self.case):
            self.run()
        return {name: p.grad for name, p in self.critic.named_parameters() if p.grad is not None}

    def _ours(self) -> None:
        from gancore.penalties import critic_step

        critic_step(self.critic, self.points["real"], self.points["fake"], eps=self.points["eps"], **self.settings)

    def _eager(self) -> None:
        real, fake, eps = self.points.values()
        slope = lambda x: torch.autograd.grad(self.critic(x).sum(), x, create_graph=True)[0]
        self._total(self.critic, slope, real, fake, eps).backward()

    def _functional(self, parameters: dict[str, Tensor], real: Tensor, fake: Tensor, eps: Tensor) -> dict[str, Tensor]:
        def total(parameters: dict[str, Tensor]) -> Tensor:
            critic = lambda x: functional_call(self.critic, parameters, (x,))
            return self._total(critic, torch.func.grad(lambda x: critic(x).sum()), real, fake, eps)

        return torch.func.grad(total)(parameters)

    def _total(self, critic: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], *given: Tensor) -> Tensor:
        """Loss and penalty as one writes them, from the critic and its gradient by the points."""
        real, fake, eps = given
        score = critic(torch.cat([real, fake]))
        total = score[len(real) :].mean() - score[: len(real)].mean()
        mixed = torch.lerp(fake, real, eps[:, None, None, None])
        for x in (mixed,) if self.case.penalty == "gp" else (real, fake):
            leaf = x.detach().requires_grad_() if self.compiled is None else x
            g = slope(leaf).flatten(1).to(_wide(x))
            cost = (torch.linalg.vector_norm(g, dim=1) - 1).square() if self.case.penalty == "gp" else g.square().sum(1)
            total = total + _WEIGHT * cost.mean()
        return total


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _Convolutions(TorchDispatchMode):
    """The convolution calls of what runs in it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default):
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


class Bare:
    """The convolutions of gancore's step and nothing else, all as calls of the library, on the tensors that they had there."""

    def __init__(self, case: Case) -> None:
        body = Body(case, "ours")
        with mock.patch.object(products, "available", return_value=False), _Convolutions() as seen:
            body()
        self.calls = seen.calls

    def __call__(self) -> dict[str, Tensor]:
        with torch.no_grad():
            for function, args in self.calls:
                function(*args)
        return {}


def body(case: Case, name: str) -> Callable[[], dict[str, Tensor]]:
    """The call to time."""
    return Bare(case) if name == "bare" else Body(case, name)


# -- the check ---------------------------------------------------------------------------------------------------------------


@functools.lru_cache(1)
def _exact(case: Case) -> dict[str, Tensor]:
    """The same in float64, from the same numbers."""
    exact = Body(replace(case, dtype="float32"), "eager")
    exact.critic = exact.critic.double()
    exact.points = {name: p.double() for name, p in exact.points.items()}
    return exact()


def check(case: Case, name: str, found: dict[str, Tensor]) -> dict[str, float]:
    """`error` of all gradients together, relative to their norm in float64. Raises Refused beyond the bound, or if one is missing.

    Bare convolutions compute nothing that there is something to compare with.
    """
    if name == "bare":
        return {}
    wanted = _exact(replace(case, dtype="float32"))
    if set(found) != set(wanted):
        raise Refused(f"{LABELS[name]}, {describe(case)}: gradients of {sorted(set(wanted) ^ set(found))} are missing")
    off = sum(float((found[key].double() - y).square().sum()) for key, y in wanted.items()) ** 0.5
    error = off / sum(float(y.square().sum()) for y in wanted.values()) ** 0.5
    # NaN is no error below a bound.
    if not error <= BOUNDS[case.dtype]:
        raise Refused(f"{LABELS[name]}, {describe(case)}: error {error:.2g}, at most {BOUNDS[case.dtype]:.2g} against float64")
    return {"error": float(f"{error:.3g}")}
