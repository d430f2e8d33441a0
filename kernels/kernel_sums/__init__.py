"""Sums over all pairs of two samples of a kernel's values, without the matrix of them.

With weights u_i, v_j of E numbers each, c_ij = <u_i, v_j> and k_ij = k(x_i, y_j), everything here is the form

    S = sum over i, j of c_ij k_ij:    row i of K v is dS/du_i,    MMD^2 = S(x, x) + S(y, y) - 2 S(x, y), with the weights of a mean

and its derivatives. A kernel takes d = |x - y|^2, |x - y|_1 or x . y. Let g = x - y, its signs, or (for dS/dx) y, so that the
derivative of d by x is 2 g, g or g. With psi the derivative of k by d, doubled where d is a square,

    dS/dx_i = sum_j c_ij psi_ij g_ij      dS/dy_j = minus the same over i (with g = x: plus)      dS/du_i = sum_j k_ij v_j

For tangents px, py, pu, pv let pd_ij = <px_i - py_j, g_ij> (<px_i, y_j> + <x_i, py_j> for products), pc_ij = <pu_i, v_j> +
<u_i, pv_j>, and chi the derivative of psi by d, doubled likewise. The derivative of S along the tangents is
T = sum of pc_ij k_ij + c_ij psi_ij pd_ij, and

    dT/dx_i = sum_j (pc_ij psi_ij + c_ij chi_ij pd_ij) g_ij + c_ij psi_ij (px_i - py_j)
    dT/du_i = sum_j k_ij pv_j + psi_ij pd_ij v_j

with py_j alone in the last bracket for products and nothing for signs. Of x - y the sums are taken apart, sum_j w_ij (x_i - y_j) =
(sum_j w_ij) x_i - (w y)_i, so that matrix products remain: x y^T before a tile's pass, one or two more after it. S and all first
derivatives come from the same visit, in the forward call: `kernel_form` returns both, its backward only scales, and a second
backward enters it again through the gradients it returned.
"""

from gancore.kernels.kernel_sums import mmd, sums
from gancore.kernels.kernel_sums.kernel import (
    Kernel,
    energy,
    gaussian,
    inverse_multiquadric,
    laplacian,
    linear,
    polynomial,
    rational_quadratic,
)
from gancore.kernels.kernel_sums.mmd import mmd2
from gancore.kernels.kernel_sums.sums import kernel_dot, kernel_matrix, witness
from gancore.kernels.kernel_sums.two_sample import MMDTest, median_bandwidth, mmd_test

__all__ = [
    "Kernel", "MMDTest", "energy", "gaussian", "inverse_multiquadric", "kernel_dot", "kernel_matrix", "laplacian", "linear",
    "median_bandwidth", "mmd2", "mmd_test", "polynomial", "rational_quadratic", "witness",
]  # fmt: skip

SPECS = (sums.SPEC, mmd.SPEC)
