"""Several generators as one player."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Several(nn.Module):
    """K generators that share the work: a batch z (N, latent) is cut into K runs of nearly equal length, one for each.

    make: builds one. `latent` and `classes` are those of the first.
    """

    def __init__(self, count: int, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(make() for _ in range(count))
        self.latent, self.classes = self.members[0].latent, 0

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([g(part) for g, part in zip(self.members, z.tensor_split(len(self.members)), strict=True)])

    def which(self, n: int) -> Tensor:
        """The generator of each of n samples, (n,), int64."""
        sizes = [len(part) for part in torch.empty(n).tensor_split(len(self.members))]
        return torch.arange(len(self.members)).repeat_interleave(torch.tensor(sizes))

    def side_by_side(self, z: Tensor) -> Tensor:
        """All generators on the same z: (N, latent) -> (K, N, ...)."""
        return torch.stack([g(z) for g in self.members])
