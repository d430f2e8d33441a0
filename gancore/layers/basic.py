"""Layers that networks share. Those with an operator import it as they are used: to load Triton takes a third of a second."""

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


class MinibatchDiscrimination(nn.Module):
    """Lets a discriminator see how close each sample lies to the rest of its batch (Salimans et al. 2016, arXiv:1606.03498, 3.2).

    Maps features (N, features) to (N, features + B): h concatenated with o, where M = h T for the learned T (features, B, C) and
    o_ib = sum over j != i of exp(-|M_ib - M_jb|_1), in [0, N - 1]. Data and fakes must be batches of their own, and of one size,
    with which o grows. T starts as N(0, 1 / features), so that distances do not depend on the number of features. impl: as in
    `gancore.kernels.minibatch_discrimination`, which raises where h has another rank than 2.
    """

    def __init__(self, features: int, B: int = 100, C: int = 5, *, impl: str = "auto") -> None:
        super().__init__()
        self.impl = impl
        self.T = nn.Parameter(torch.randn(features, B, C) / features**0.5)

    def forward(self, h: Tensor) -> Tensor:
        from gancore.kernels import minibatch_discrimination

        m = (h @ self.T.flatten(1)).unflatten(-1, self.T.shape[1:])
        return torch.cat([h, minibatch_discrimination(m, impl=self.impl).to(h.dtype)], 1)


class MinibatchStddev(nn.Module):
    """Appends the standard deviation over groups of samples as `channels` channels (Karras et al. 2018, arXiv:1710.10196).

    Maps (N, C, ...) to (N, C + channels, ...). groups: their number, of N / groups samples each, where papers state the samples
    of a group; see `gancore.kernels.minibatch_stddev`.
    """

    def __init__(self, groups: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.groups, self.channels = groups, channels

    def forward(self, x: Tensor) -> Tensor:
        from gancore.kernels import minibatch_stddev

        return torch.cat([x, minibatch_stddev(x, self.groups, self.channels)], 1)


class Direction(nn.Module):
    """A vector v (C,) of the ball |v|_norm <= 1, and how far another reaches along it: (C,) -> <v, d>, ().

    norm: 1, 2 or inf. Its largest value over the ball is the dual norm of d. `retract` brings v back to the nearest point of the
    ball after a step (Mroueh et al. 2017, arXiv:1702.08398, algorithm 1; for norm 1 Duchi et al. 2008, ICML, figure 1).
    """

    def __init__(self, size: int, norm: float = 2) -> None:
        super().__init__()
        self.norm = norm
        self.v = nn.Parameter(torch.randn(size))
        self.retract()

    def forward(self, difference: Tensor) -> Tensor:
        return self.v @ difference

    @torch.no_grad()
    def retract(self) -> None:
        """v to the nearest point of the ball."""
        if self.norm == 2:
            self.v.div_(self.v.norm().clamp_min(1))
        elif self.norm == 1:
            sizes = self.v.abs().sort(descending=True).values
            excess = (sizes.cumsum(0) - 1) / torch.arange(1, len(sizes) + 1, device=sizes.device)
            # The largest of the means is what all must lose for the rest to sum to 1; inside the ball there is none.
            self.v.copy_(self.v.sign() * (self.v.abs() - excess.max().clamp_min(0)).clamp_min(0))
        else:
            self.v.clamp_(-1, 1)


class Frames(nn.Module):
    """Two frames U, V (C, k) of orthonormal columns, and the trace they give a matrix: (C, C) -> Tr U' M V, ().

    Its largest value over all frames is the sum of M's k largest singular values. `retract` brings U and V back to orthonormal
    columns after a step, by QR (Mroueh et al. 2017, arXiv:1702.08398, algorithm 2).
    """

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        self.U, self.V = (nn.Parameter(torch.linalg.qr(torch.randn(size, components)).Q) for _ in range(2))

    def forward(self, matrix: Tensor) -> Tensor:
        return (self.U * (matrix @ self.V)).sum()

    @torch.no_grad()
    def retract(self) -> None:
        """U and V to the Q of their QR decompositions whose R has a positive diagonal, which is continuous."""
        for frame in (self.U, self.V):
            q, r = torch.linalg.qr(frame)
            frame.copy_(q * torch.where(r.diagonal() < 0, -1.0, 1.0))


def spectral(module: nn.Module) -> nn.Module:
    """Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) of every weight matrix and kernel of `module`, in place.

    One power iteration a forward pass in training; its vectors are buffers, so they are in checkpoints.
    """
    for layer in list(module.modules()):
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
            spectral_norm(layer)
    return module
