"""The work of one comparison of convolutions: networks and inputs from a seed, bodies by name, the check of a body against float64.

Every body of a case has the same weights, inputs and output gradients, and gives the result and the gradients that a training step
needs: of the input where a layer precedes, of the weight, of scale and shift of the normalisation.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from gancore.benchmarks.cases import Refused

_SEED = 2016
_LATENT, _IMAGE = 100, 3
SLOPE = 0.2
_LAST: dict[str, Any] = {"memory_format": torch.channels_last}

LABELS = {
    "ours": "gancore",
    "eager": "eager",
    "last": "eager, channels_last",
    "eager-compiled": "compiled",
    "last-compiled": "compiled, channels_last",
    "bare": "bare convolutions",
}

# Errors of a tensor relative to its norm: of results, of a layer's gradients, and of a whole generator's. Where rounding moves a
# value across the kink of ReLU its gradient comes or goes: where that is a millionth of all the error is a thousandth, and in
# bfloat16 those of every body are percents from float64.
BOUNDS = {"float32": (1e-4, 3e-3, 5e-3), "bfloat16": (1e-2, 5e-2, 0.3)}


@dataclass(frozen=True)
class Case:
    """One comparison, of plain values, so that another process can make the same one.

    work: "layer" (of a DCGAN generator), "critic" (a layer of the critic) or "generator" (all of it). image: the side of its
    images. index: which layer. order: 2 is the step of a gradient penalty, through the gradient by the input.
    """

    work: str
    image: int = 64
    index: int = 0
    batch: int = 64
    dtype: str = "float32"
    order: int = 1
    width: int = 64
    device: str = "cpu"

    @property
    def type(self) -> torch.dtype:
        """dtype, as torch has it."""
        return torch.float32 if self.dtype == "float32" else torch.bfloat16


class Size(NamedTuple):
    """Channels and side of a convolution's input and the channels of its result."""

    inputs: int
    outputs: int
    side: int


def sizes(case: Case) -> list[Size]:
    """The convolutions of the case's network, from its input on."""
    levels = int(math.log2(case.image // 4))
    channels = [case.width * 2**i for i in range(levels)]
    if case.work == "critic":
        return [Size(a, b, case.image >> i) for i, (a, b) in enumerate(pairwise([_IMAGE, *channels]))]
    rows = pairwise([_LATENT, *channels[::-1], _IMAGE])
    return [Size(a, b, 4 << (i - 1) if i else 1) for i, (a, b) in enumerate(rows)]


def describe(case: Case) -> str:
    """The case in words."""
    return f"{title(case)}, {case.dtype}, batch {case.batch}"


def title(case: Case) -> str:
    """The same without type and batch."""
    if case.work == "generator":
        return f"DCGAN-{case.image} generator"
    inputs, outputs, side = sizes(case)[case.index]
    out = side // 2 if case.work == "critic" else 4 if side == 1 else 2 * side
    step = ", double backward" if case.order == 2 else ""
    player = " critic" if case.work == "critic" else ""
    return f"DCGAN-{case.image}{player}, {inputs}x{side}x{side} to {outputs}x{out}x{out}{step}"


# -- networks ----------------------------------------------------------------------------------------------------------------


def _layer(case: Case, index: int) -> list[nn.Module]:
    inputs, outputs, side = sizes(case)[index]
    if case.work == "critic":
        return [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(SLOPE)]
    conv = nn.ConvTranspose2d(inputs, outputs, 4, *((1, 0) if side == 1 else (2, 1)), bias=False)
    return [conv, nn.Tanh()] if outputs == _IMAGE else [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def network(case: Case) -> nn.Sequential:
    """The modules, as one writes them. Single layers in bfloat16 have the types that autocast gives a layer: x, weight and bias
    in bfloat16, the normalisation in float32."""
    indices = range(len(sizes(case))) if case.work == "generator" else [case.index]
    model = nn.Sequential(*(module for i in indices for module in _layer(case, i)))
    generator = Generator().manual_seed(_SEED)
    with torch.no_grad():
        for module in model:
            norm = isinstance(module, nn.BatchNorm2d)
            for name, p in module.named_parameters():
                noise = torch.randn(p.shape, generator=generator)
                p.copy_(1 + 0.1 * noise if norm and name == "weight" else (0.02 if p.ndim > 1 else 0.1) * noise)
            if case.work != "generator" and not norm:
                module.to(case.type)
    return model.to(case.device)


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    """x, and the gradient of the result."""
    all_of = sizes(case)
    first, last = (all_of[0], all_of[-1]) if case.work == "generator" else (all_of[case.index],) * 2
    out = last.side // 2 if case.work == "critic" else 4 if last.side == 1 else 2 * last.side
    generator = Generator().manual_seed(_SEED + 1)
    x = torch.randn(case.batch, first.inputs, first.side, first.side, generator=generator)
    g = torch.randn(case.batch, last.outputs, out, out, generator=generator)
    return x.to(case.device, torch.float32 if case.work == "generator" else case.type), g.to(case.device, case.type)


def _cast(case: Case) -> AbstractContextManager[Any]:
    return torch.autocast(case.device, torch.bfloat16, enabled=case.work == "generator" and case.dtype == "bfloat16")


# -- bodies ------------------------------------------------------------------------------------------------------------------


class Body:
    """A case's step by one body; calling it gives all results by name."""

    def __init__(self, case: Case, name: str) -> None:
        self.case = case
        model, (x, g) = network(case), inputs(case)
        if not name.startswith("eager"):
            model, x, g = model.to(**_LAST), x.to(**_LAST), g.to(**_LAST)
        self.parameters = dict(model.named_parameters())
        self.model = _ours(case, model) if name == "ours" else model
        if name.endswith("-compiled"):
            self.model = torch.compile(model, fullgraph=True, dynamic=False)  # type: ignore[assignment]
        # Nothing precedes a generator: its z has no gradient.
        self.x, self.g = x.requires_grad_(case.work != "generator"), g.requires_grad_(case.order == 2)

    def forward(self) -> Tensor:
        """The network's result."""
        with _cast(self.case):
            y: Tensor = self.model(self.x)
        return y

    def __call__(self) -> dict[str, Tensor]:
        wanted = {**({"x": self.x} if self.x.requires_grad else {}), **self.parameters}
        y = self.forward()
        if self.case.order == 1:
            found = torch.autograd.grad(y, list(wanted.values()), self.g)
            return {"y": y.detach(), **{f"gradient of {name}": g for name, g in zip(wanted, found, strict=True)}}
        # A penalty on |dD/dx|, seen from this layer: what comes from the layers above is g, whose gradient they need in turn.
        (slope,) = torch.autograd.grad(y, self.x, self.g, create_graph=True)
        penalty = (torch.linalg.vector_norm(slope.to(_wide(slope)).flatten(1), dim=1) - 1).square().mean()
        of = {"g": self.g, **{name: p for name, p in self.parameters.items() if p.ndim > 1}}
        found = torch.autograd.grad(penalty, list(of.values()))
        return {"slope": slope.detach(), **{f"gradient of {name}": g for name, g in zip(of, found, strict=True)}}


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _ours(case: Case, model: nn.Sequential) -> nn.Module:
    if case.work == "generator":
        import gancore

        return gancore.accelerate(model)
    from gancore.layers import ConvBiasAct2d, ConvTransposeBNAct2d

    fused: nn.Module
    if case.work == "critic":
        fused = ConvBiasAct2d.from_modules(model[0], model[1])
    else:
        fused = ConvTransposeBNAct2d.from_modules(model[0], model[1] if len(model) == 3 else None, model[-1])
    return fused


class Bare:
    """The generator's transposed convolutions by themselves, forward and backward, each of an input of its own."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rows = list(self._rows())

    def _rows(self) -> Iterator[tuple[nn.Module, Tensor, Tensor, list[Tensor]]]:
        generator = Generator().manual_seed(_SEED + 2)
        case = self.case
        convs = [m for m in network(case).to(**_LAST) if isinstance(m, nn.ConvTranspose2d)]
        for i, (conv, size) in enumerate(zip(convs, sizes(case), strict=True)):
            out = 4 if size.side == 1 else 2 * size.side
            draw = lambda *shape: torch.randn(case.batch, *shape, generator=generator).to(case.device, case.type).to(**_LAST)
            x, g = draw(size.inputs, size.side, size.side), draw(size.outputs, out, out)
            x.requires_grad_(i > 0)
            yield conv, x, g, [t for t in (x, *conv.parameters()) if t.requires_grad]

    def __call__(self) -> dict[str, Tensor]:
        with _cast(self.case):
            results = [conv(x) for conv, x, _, _ in self.rows]
        for y, (_, _, g, wanted) in zip(results[::-1], self.rows[::-1], strict=True):
            torch.autograd.grad(y, wanted, g)
        return {}


def body(case: Case, name: str) -> Callable[[], dict[str, Tensor]]:
    """The call to time."""
    return Bare(case) if name == "bare" else Body(case, name)


# -- the check ---------------------------------------------------------------------------------------------------------------


@functools.lru_cache(1)
def _exact(case: Case) -> dict[str, Tensor]:
    """The same in float64, from the same numbers."""
    exact = Body(case, "eager")
    exact.case = Case("layer", order=case.order, device=case.device)  # whose forward has no autocast
    exact.model = copy.deepcopy(exact.model).double()
    exact.parameters = dict(exact.model.named_parameters())
    exact.x, exact.g = (t.detach().double().requires_grad_(t.requires_grad) for t in (exact.x, exact.g))
    return exact()


def check(case: Case, name: str, found: dict[str, Tensor]) -> dict[str, float]:
    """`error`, the largest of the results' errors, each relative to its norm in float64. Raises Refused beyond the bound.

    Bare convolutions compute nothing that there is something to compare with.
    """
    if name == "bare":
        return {}
    result, of_layer, of_network = BOUNDS[case.dtype]
    errors, wrong = {}, []
    for key, y in _exact(case).items():
        errors[key] = e = float((found[key].double() - y).norm() / y.norm())
        bound = result if key == "y" else of_network if case.work == "generator" else of_layer
        # NaN is no error below a bound.
        if not e <= bound:
            wrong.append(f"{key}: error {e:.2g}, at most {bound:.2g}")
    if wrong:
        raise Refused(f"{LABELS[name]}, {describe(case)}: {'; '.join(wrong)} against float64")
    return {"error": float(f"{max(errors.values()):.3g}")}
