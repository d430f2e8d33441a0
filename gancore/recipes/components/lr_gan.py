"""LR-GAN, Yang et al. 2017, arXiv:1703.01560. An image is a background and objects, each drawn, masked, placed and pasted in turn.

x_0 = G_bg(z_0); x_t = ST(m_t, a_t) ST(f_t, a_t) + (1 - ST(m_t, a_t)) x_t-1: image f, mask m and map a of object t from the state of
an LSTM over z_1 .. z_t, ST a spatial transformer. The objective is that of gan-ns on the last image.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import DataSpec, Recipe, adam, recipe
from gancore.nets.layered import Layered


@recipe
def lr_gan(objects: int = 1, extent: float = 0.6, codes: int = 64, lr: float = 2e-4) -> Recipe:
    """objects: how many. extent: largest side of one, of the image's. codes: size of its noise. lr: Adam's rate, betas
    (0.5, 0.999)."""

    def pair(spec: DataSpec) -> Mapping[str, nn.Module]:
        spec = replace(spec, net="dcgan")
        return {"G": Layered(spec, objects, codes=codes, extent=extent), "D": nets.critic(spec)}

    return adversarial(losses.non_saturating, adam(lr), nets=pair)
