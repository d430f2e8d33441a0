"""Drop-in operators for adversarial training: PyTorch references, Triton and native kernels, first and second derivatives.

The public functions of every operator file in this folder, by its `__all__`. Importing compiles nothing and starts no device.
"""

from typing import TYPE_CHECKING

if __name__ != "gancore.kernels":
    raise ImportError(f"this package is gancore.kernels, imported as {__name__!r}: write `import gancore.kernels`")

if TYPE_CHECKING:  # what a type checker sees of the loop below
    from gancore.kernels.batch_norm_act import batch_norm_act as batch_norm_act
    from gancore.kernels.bias_act import bias_act as bias_act
    from gancore.kernels.conv import conv1d_bias_act as conv1d_bias_act
    from gancore.kernels.conv import conv2d_bias_act as conv2d_bias_act
    from gancore.kernels.conv import conv3d_bias_act as conv3d_bias_act
    from gancore.kernels.conv_transpose import ConvTransposeLink as ConvTransposeLink
    from gancore.kernels.conv_transpose import conv_transpose1d_bn_act as conv_transpose1d_bn_act
    from gancore.kernels.conv_transpose import conv_transpose2d_bn_act as conv_transpose2d_bn_act
    from gancore.kernels.conv_transpose import conv_transpose3d_bn_act as conv_transpose3d_bn_act
    from gancore.kernels.conv_transpose import conv_transpose_chain as conv_transpose_chain
    from gancore.kernels.gradient_norm_penalty import gradient_norm_penalty as gradient_norm_penalty
    from gancore.kernels.interpolate import interpolate as interpolate
    from gancore.kernels.kernel_sums import Kernel as Kernel
    from gancore.kernels.kernel_sums import MMDTest as MMDTest
    from gancore.kernels.kernel_sums import energy as energy
    from gancore.kernels.kernel_sums import gaussian as gaussian
    from gancore.kernels.kernel_sums import inverse_multiquadric as inverse_multiquadric
    from gancore.kernels.kernel_sums import kernel_dot as kernel_dot
    from gancore.kernels.kernel_sums import kernel_matrix as kernel_matrix
    from gancore.kernels.kernel_sums import laplacian as laplacian
    from gancore.kernels.kernel_sums import linear as linear
    from gancore.kernels.kernel_sums import median_bandwidth as median_bandwidth
    from gancore.kernels.kernel_sums import mmd2 as mmd2
    from gancore.kernels.kernel_sums import mmd_test as mmd_test
    from gancore.kernels.kernel_sums import polynomial as polynomial
    from gancore.kernels.kernel_sums import rational_quadratic as rational_quadratic
    from gancore.kernels.kernel_sums import witness as witness
    from gancore.kernels.minibatch_discrimination import minibatch_discrimination as minibatch_discrimination
    from gancore.kernels.minibatch_stddev import minibatch_stddev as minibatch_stddev

from gancore.kernels._ranges import profile_ranges
from gancore.kernels._spec import modules

__all__ = ["profile_ranges"]

for _module in modules():
    # A function takes the place of the submodule of the same name, whichever of them is imported first.
    globals().update({name: getattr(_module, name) for name in _module.__all__})
    __all__ += _module.__all__
