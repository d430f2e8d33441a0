"""Transposed convolution, batch normalisation and activation as one operator, and chains of them.

    y = act(batch_norm(conv_transpose(x, w) + b))

A convolution's bias moves each channel's mean and nothing else: in training it cancels (its derivative is 0), in evaluation it is
taken off the running mean, and without normalisation it is added in the activation's pass. So no pass is spent on it, but for
derivatives in evaluation.

On a GPU the convolution is the phase kernel of `_conv`, whose tiles give the statistics as they are written; on a CPU it is the
library's, or matrix products where that is slow: of the first layer, the last one, and the gradient of large weights.
`batch_norm_act` states the maths of what follows, `chain.py` how layers that follow one another keep one tensor each.
"""

from gancore.kernels.conv_transpose.chain import ConvTransposeLink, conv_transpose_chain
from gancore.kernels.conv_transpose.public import SPECS as SPECS
from gancore.kernels.conv_transpose.public import conv_transpose1d_bn_act, conv_transpose2d_bn_act, conv_transpose3d_bn_act

__all__ = [
    "ConvTransposeLink", "conv_transpose1d_bn_act", "conv_transpose2d_bn_act", "conv_transpose3d_bn_act", "conv_transpose_chain",
]  # fmt: skip
