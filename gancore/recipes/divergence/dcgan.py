"""DCGAN, Radford et al. 2016, arXiv:1511.06434. The non-saturating game between convolutional networks.

The body is `net=dcgan`: fractionally strided convolutions, batch normalisation, weights from N(0, 0.02^2), z of 100 numbers.
"""

from dataclasses import replace

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def dcgan(lr: float = 2e-4) -> Recipe:
    """lr: Adam's rate, betas (0.5, 0.999), as in section 4 of the paper."""
    return adversarial(losses.non_saturating, adam(lr), nets=lambda spec: nets.gan(replace(spec, net="dcgan")))
