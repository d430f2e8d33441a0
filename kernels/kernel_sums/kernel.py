"""Kernels as values: what `gaussian(1.0) + 0.5 * energy()` is, and the form in which operators receive it.

An operator sees kernels of one metric at a time, as a list of integers, one a term, and a tensor of parameters (terms, 3): the
term's weight w and two numbers of its own. With r2 = |x - y|^2, l = |x - y|_1 and t = x . y the terms are

    gaussian                w exp(-r2 / (2 a^2))            rational_quadratic      w (1 + r2 / (2 a))^-a
    inverse_multiquadric    w a / (a + r2)                  energy                  -w r2^(a / 2)
    laplacian               w exp(-l / a)                   polynomial, linear      w (a t + b)^n

A Gaussian whose bandwidth is that of the term before it over 2^(m / 2) needs no exponential of its own: squaring the one before m
times gives it. Such terms are found where bandwidths are numbers, and carry m beside their kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gancore.kernels import _check

Number = float | Tensor

GAUSSIAN, RATIONAL_QUADRATIC, INVERSE_MULTIQUADRIC, ENERGY, LAPLACIAN, POLYNOMIAL = range(6)
KINDS = 8  # a code is kind + KINDS * (squarings of a Gaussian, degree of a polynomial)
SQUARED, ABSOLUTE, DOT = range(3)  # metrics: |x - y|^2, |x - y|_1, x . y
METRIC = {LAPLACIAN: ABSOLUTE, POLYNOMIAL: DOT}  # of the other kinds SQUARED

# Each squaring doubles the relative error of an exponential; after these it gets one of its own.
_MOST_SQUARINGS = 8


class Term(NamedTuple):
    """One summand: its kind, weight and own numbers; extra is a Gaussian's squarings or a polynomial's degree."""

    kind: int
    weight: Number
    a: Number
    b: Number = 0.0
    extra: int = 0
    over_features: bool = False  # whether a is to be divided by the number of features


@dataclass(frozen=True)
class Kernel:
    """A sum of terms. Kernels add, and scale by numbers or tensors with one element."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        # Settled here, where bandwidths are numbers: inside torch.compile they may be symbols.
        object.__setattr__(self, "terms", _chained(self.terms))
        parts: dict[int, list[Term]] = {}
        for term in self.terms:
            parts.setdefault(METRIC.get(term.kind, SQUARED), []).append(term)
        object.__setattr__(self, "_parts", [_Part(metric, terms) for metric, terms in parts.items()])

    def __add__(self, other: Kernel) -> Kernel:
        if not isinstance(other, Kernel):
            return NotImplemented
        return Kernel(self.terms + other.terms)

    def __mul__(self, factor: Number) -> Kernel:
        if isinstance(factor, bool) or not isinstance(factor, int | float | Tensor):
            return NotImplemented
        (scale,) = _numbers("kernel", "factor", factor, one=True)
        return Kernel(tuple(term._replace(weight=term.weight * scale) for term in self.terms))

    __rmul__ = __mul__


class Packed(NamedTuple):
    """The terms of one metric as an operator takes them: codes, and parameters (terms, 3)."""

    metric: int
    codes: list[int]
    params: Tensor


class _Part:
    """The terms of one metric, ready to be packed; as a table on the CPU if all of them are numbers."""

    def __init__(self, metric: int, terms: list[Term]) -> None:
        self.metric, self.terms = metric, terms
        self.codes = [term.kind + KINDS * term.extra for term in terms]
        self.over_features = any(term.over_features for term in terms)
        numbers = all(isinstance(v, float) for term in terms for v in (term.weight, term.a, term.b))
        self.table = torch.tensor([[t.weight, t.a, t.b] for t in terms], dtype=torch.float64) if numbers else None
        self.divided = torch.tensor([[False, t.over_features, False] for t in terms]) if self.over_features else None
        self.copies: dict[torch.device, Tensor] = {}

    def params(self, features: int, device: torch.device) -> Tensor:
        table = self._stacked(device) if self.table is None else self._copied(self.table, device)
        if self.divided is None:
            return table
        return torch.where(self.divided.to(device), table / features, table)

    def _copied(self, table: Tensor, device: torch.device) -> Tensor:
        if device.type == "cpu":
            return table
        if torch.compiler.is_compiling():
            return table.to(device)
        if device not in self.copies:
            self.copies[device] = table.to(device)
        return self.copies[device]

    def _stacked(self, device: torch.device) -> Tensor:
        cells = [
            v.to(device, torch.float64) if isinstance(v, Tensor) else torch.full((), v, dtype=torch.float64, device=device)
            for term in self.terms
            for v in (term.weight, term.a, term.b)
        ]
        return torch.stack(cells).view(len(self.terms), 3)


def pack(kernel: Kernel, features: int, device: torch.device) -> list[Packed]:
    """The kernel's terms by metric, its parameters as float64 on `device`."""
    parts: list[_Part] = kernel._parts  # type: ignore[attr-defined]
    return [Packed(part.metric, part.codes, part.params(features, device)) for part in parts]


def _chained(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Gaussians of known bandwidth first, from wide to narrow, each with the squarings that give it from the one before."""
    known = sorted((t for t in terms if _known(t)), key=lambda t: -float(t.a))
    found: list[Term] = []
    total = 0
    for i, term in enumerate(known):
        m = _squarings(float(known[i - 1].a), float(term.a)) if i else 0
        total = total + m if m and total + m <= _MOST_SQUARINGS else 0
        found.append(term._replace(extra=m if total else 0))
    return (*found, *(t for t in terms if not _known(t)))


def _known(term: Term) -> bool:
    return term.kind == GAUSSIAN and isinstance(term.a, float)


def _squarings(wide: float, narrow: float) -> int:
    """m if (wide / narrow)^2 is 2^m for a whole m > 0, else 0."""
    m = 2 * math.log2(wide / narrow)
    return round(m) if m > 0.5 and abs(m - round(m)) < 1e-12 else 0


def _numbers(op: str, name: str, values: Number | Sequence[Number], one: bool = False) -> list[Number]:
    """A number, tensor or sequence of them as a list of floats and tensors without dimensions."""
    if isinstance(values, Tensor):
        if not values.is_floating_point():
            raise TypeError(f"{op}: {name} got {values.dtype}, wants floating-point numbers")
        if values.ndim > 1 or values.numel() == 0 or (one and values.numel() > 1):
            wanted = "one number" if one else "numbers in one dimension"
            raise ValueError(f"{op}: {name} got shape {tuple(values.shape)}, wants {wanted}")
        return list(values.reshape(-1).unbind())
    if not isinstance(values, Sequence):
        return [_check.number(op, name, values)]
    if not values or isinstance(values, str):
        raise ValueError(f"{op}: {name} got {values!r}, wants at least one number")
    return [number for value in values for number in _numbers(op, name, value, one=True)]


def _positive(op: str, name: str, values: Number | Sequence[Number]) -> list[Number]:
    found = _numbers(op, name, values)
    for value in found:
        if isinstance(value, float) and not 0 < value < math.inf:
            raise ValueError(f"{op}: {name} got {value}, wants positive numbers")
    return found


def _weights(op: str, count: int, weights: Sequence[Number] | Tensor | None) -> list[Number]:
    if weights is None:
        return [1.0] * count
    found = _numbers(op, "weights", weights)
    if len(found) != count:
        raise ValueError(f"{op}: weights got {len(found)}, wants {count}, one for each term")
    return found


def gaussian(bandwidths: Number | Sequence[Number], weights: Sequence[Number] | Tensor | None = None) -> Kernel:
    """k(x, y) = sum of w exp(-|x - y|^2 / (2 s^2)) over bandwidths s > 0 and weights w, by default 1 each.

    Both may be numbers, sequences of them, or tensors (which may require a gradient). Bandwidths given as numbers a power of
    sqrt(2) apart share their exponentials. Raises TypeError or ValueError for what is no positive number.
    """
    scales = _positive("gaussian", "bandwidths", bandwidths)
    return Kernel(tuple(Term(GAUSSIAN, w, s) for s, w in zip(scales, _weights("gaussian", len(scales), weights), strict=True)))


def rational_quadratic(alphas: Number | Sequence[Number], weights: Sequence[Number] | Tensor | None = None) -> Kernel:
    """k(x, y) = sum of w (1 + |x - y|^2 / (2 a))^-a over a > 0 (Binkowski et al. 2018, arXiv:1801.01401, section 2.1)."""
    scales = _positive("rational_quadratic", "alphas", alphas)
    w = _weights("rational_quadratic", len(scales), weights)
    return Kernel(tuple(Term(RATIONAL_QUADRATIC, *pair) for pair in zip(w, scales, strict=True)))


def inverse_multiquadric(scales: Number | Sequence[Number]) -> Kernel:
    """k(x, y) = sum of c / (c + |x - y|^2) over scales c > 0 (Tolstikhin et al. 2018, arXiv:1711.01558, section 4)."""
    return Kernel(tuple(Term(INVERSE_MULTIQUADRIC, 1.0, c) for c in _positive("inverse_multiquadric", "scales", scales)))


def laplacian(bandwidths: Number | Sequence[Number]) -> Kernel:
    """k(x, y) = sum of exp(-|x - y|_1 / s) over bandwidths s > 0; its derivative where coordinates agree is taken as 0."""
    return Kernel(tuple(Term(LAPLACIAN, 1.0, s) for s in _positive("laplacian", "bandwidths", bandwidths)))


def energy(beta: float = 1.0) -> Kernel:
    """k(x, y) = -|x - y|^beta for 0 < beta <= 2, whose MMD^2 is the energy distance (Szekely and Rizzo 2013). Its derivative at
    x = y is taken as 0."""
    value = _check.number("energy", "beta", beta)
    if not 0 < value <= 2:
        raise ValueError(f"energy: beta got {beta}, wants a number above 0 and at most 2")
    return Kernel((Term(ENERGY, 1.0, value),))


def polynomial(degree: int = 3, gamma: Number | None = None, coef0: Number = 1.0) -> Kernel:
    """k(x, y) = (gamma x . y + coef0)^degree, gamma by default 1 / D: with the defaults the kernel of KID (arXiv:1801.01401)."""
    if isinstance(degree, bool) or not isinstance(degree, int):
        raise TypeError(f"polynomial: degree got {type(degree).__name__}, wants an int")
    if not 1 <= degree <= 16:
        raise ValueError(f"polynomial: degree got {degree}, wants an int from 1 to 16")
    (scale,) = _numbers("polynomial", "gamma", 1.0 if gamma is None else gamma, one=True)
    (shift,) = _numbers("polynomial", "coef0", coef0, one=True)
    return Kernel((Term(POLYNOMIAL, 1.0, scale, shift, degree, over_features=gamma is None),))


def linear() -> Kernel:
    """k(x, y) = x . y."""
    return Kernel((Term(POLYNOMIAL, 1.0, 1.0, 0.0, 1),))
