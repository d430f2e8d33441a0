"""Critics of pairs of a sample and its code."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore import nets
from gancore.core import DataSpec
from gancore.nets.toy import Mlp


class JointCritic(nn.Module):
    """Samples (N, ...) and codes (N, codes) to scores (N,). Vectors enter beside their codes, images by way of an encoder."""

    separate = False

    def __init__(self, spec: DataSpec, codes: int, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        width = spec.width or width
        self.encoder = nets.encoder(spec, width, norm=False) if spec.net != "toy" else None
        inputs = width if self.encoder is not None else torch.Size(spec.shape).numel()
        self.body = Mlp([inputs + codes, *[width] * depth, 1])

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        seen = x.flatten(1) if self.encoder is None else F.leaky_relu(self.encoder(x), 0.2)
        return self.body(torch.cat([seen, z], 1)).squeeze(1)
