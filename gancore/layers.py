"""Layers that networks share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and shift are looked up by label (de Vries et al. 2017, arXiv:1707.00683).

    Maps (N, channels, H, W) and labels (N,) to (N, channels, H, W).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(x) * self.scale(y)[:, :, None, None] + self.shift(y)[:, :, None, None]


class OneHot(nn.Module):
    """Appends labels (N,) as one-hot features to x: (N, D) -> (N, D + classes), (N, C, H, W) -> (N, C + classes, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        hot = F.one_hot(y, self.classes).to(x.dtype)
        if x.dim() == 4:
            hot = hot[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, hot], 1)


def spectral(module: nn.Module) -> nn.Module:
    """Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) of every weight matrix and kernel of `module`, in place.

    One power iteration a forward pass in training; its vectors are buffers, so they are in checkpoints.
    """
    for layer in list(module.modules()):
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
            spectral_norm(layer)
    return module
