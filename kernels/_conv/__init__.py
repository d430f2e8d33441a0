"""Convolutions for the operators that fuse other steps with them: the transposed one, its adjoint, its weight gradient.

    y[n, b, o] = sum over a and taps k of x[n, a, i] w[a, b, k],    o = stride i - padding + dilation k

`transposed` is that map, `correlate` its adjoint in x, which is the ordinary convolution, and `weight_gradient` its adjoint in w.
Each is linear in both tensors, and the derivatives of each are the other two, so that every order of derivative exists.

Computed is a matrix product whose left factor is never formed: rows are positions, and the sum runs over channels and taps. An
output at o sees only taps k with o + padding - k a multiple of the stride. Which these are depends on o modulo the stride: outputs
of one remainder, a phase, are an ordinary convolution of stride one with some of the taps. So no inserted zero is multiplied,
nothing is scattered, and each output is written once. Groups, dilation and float64 are left to PyTorch's convolutions.

That is on a GPU (impl "triton"). On a CPU ("native") they are PyTorch's convolutions, and `products` where those are slow.
"""

from gancore.kernels._conv.geometry import Geometry
from gancore.kernels._conv.operators import correlate, transposed, weight_gradient

__all__ = ["Geometry", "correlate", "transposed", "weight_gradient"]
