"""Generative recurrent adversarial network, Im et al. 2016, arXiv:1602.05110. G draws an image in several strokes.

x = tanh(sum over t of C_t), C_t = f(tanh(W z), g(C_t-1)): f a decoder and g an encoder, both convolutional, with 0 in place of g at
first. For images in [0, 1] that is the paper's sigmoid. The objective is that of gan-ns; one stroke is DCGAN on the code tanh(W z).
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import DataSpec, Recipe, adam, recipe
from gancore.nets.canvas import Canvas


@recipe
def gran(strokes: int = 3, codes: int = 100, lr: float = 2e-4) -> Recipe:
    """strokes: the paper's T. codes: numbers that g finds in a stroke. lr: Adam's rate, betas (0.5, 0.999)."""

    def pair(spec: DataSpec) -> Mapping[str, nn.Module]:
        spec = replace(spec, net="dcgan")
        return {"G": Canvas(spec, codes=codes, steps=strokes), "D": nets.critic(spec)}

    return adversarial(losses.non_saturating, adam(lr), nets=pair)
