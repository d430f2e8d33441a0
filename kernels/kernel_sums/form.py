"""What the registered operators, their native and their Triton bodies hand one another."""

from typing import NamedTuple

from torch import Tensor

X, Y, U, V, PARAMS = 1, 2, 4, 8, 16  # bits of `wanted`: the arguments whose derivatives are asked for


class Form(NamedTuple):
    """The arguments of the operators that are not tensors, as they take them.

    metric, codes: of kernel.Packed. diagonal: whether a point of a symmetric sum meets itself. block: rows that belong together,
    0 for all; points of different blocks do not meet. precision: of matrix products on tensor cores.
    """

    metric: int
    codes: list[int]
    diagonal: bool
    block: int
    precision: str
    impl: str


class First(NamedTuple):
    """S = sum of <u_i, v_j> k(x_i, y_j) as float64, and its derivatives; those not asked for are empty."""

    value: Tensor
    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor
    params: Tensor


class Second(NamedTuple):
    """Derivatives of <px, dS/dx> + <py, dS/dy> + <pu, dS/du> + <pv, dS/dv>; those not asked for are empty."""

    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor


class Points(NamedTuple):
    """One side of the pairs: points (N, D), their weights (N, E), and tangents of both or None."""

    points: Tensor
    weights: Tensor
    tangent: Tensor | None = None
    weight_tangent: Tensor | None = None
