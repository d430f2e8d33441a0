"""A generator that draws in several strokes and looks at each before the next (Im et al. 2016, arXiv:1602.05110)."""

import torch
from torch import Tensor, nn

from gancore.core import DataSpec
from gancore.layers import Unit, run
from gancore.nets import dcgan


class Canvas(dcgan.Generator):
    """z (N, latent) to images (N, C, side, side): tanh of the sum of `steps` strokes, each a transposed-convolution decoder's.

    The decoder reads tanh(W z), the same at every step, beside `codes` numbers that a convolutional encoder finds in the stroke
    before; at the first step they are 0.
    """

    def __init__(self, spec: DataSpec, *, latent: int = 0, codes: int = 0, steps: int = 3) -> None:
        latent = latent or dcgan.LATENT
        codes = codes or latent
        super().__init__(spec, latent=latent + codes)
        self.latent, self.codes, self.steps = latent, codes, steps
        self.read = nn.Linear(latent, latent)
        self.look = dcgan.Encoder(spec, codes)

    def stroke(self, code: Tensor) -> Tensor:
        """What the decoder adds to a canvas for its input (N, latent + codes)."""
        layers = zip(self.convs, self.norms, strict=True)
        return run(code[:, :, None, None], [*(Unit(conv, norm, "relu") for conv, norm in layers), Unit(self.last)])

    def canvases(self, z: Tensor) -> list[Tensor]:
        """The image after each step."""
        fixed = torch.tanh(self.read(z))
        seen, total, found = fixed.new_zeros(len(z), self.codes), None, []
        for step in range(self.steps):
            stroke = self.stroke(torch.cat([fixed, seen], 1))
            total = stroke if total is None else total + stroke
            found.append(torch.tanh(total))
            if step + 1 < self.steps:
                seen = self.look(stroke)
        return found

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.canvases(z)[-1]
