"""Energy that particles leave in the layers of a detector: `calo8`."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset

COUNT = 8_192
SIDE = 8
HITS = 96
WIDTHS = torch.tensor([0.7, 1.5])  # of a shower, in cells
LAYERS = torch.tensor([[0.50, 0.35, 0.15], [0.15, 0.35, 0.50]])  # mean share of the energy in each layer


@cache
def calo8() -> Dataset:
    """8,192 showers x (N, 3, 8, 8) float32, three layers of deposits, non-negative and mostly exactly 0.

    "energy" (N, 1) float32 in [1, 4] is the nominal energy, which the deposits add up to within 5 %. y: narrow showers that stop
    early (0), wide ones that go deep (1).
    """
    generator = torch.Generator().manual_seed(88)
    y = torch.randint(2, (COUNT,), generator=generator)
    energy = 1 + 3 * torch.rand(COUNT, 1, generator=generator)
    centre = (SIDE - 1) / 2 + 0.5 * torch.randn(COUNT, 1, 2, generator=generator)
    place = centre + WIDTHS[y][:, None, None] * torch.randn(COUNT, HITS, 2, generator=generator)
    cell = place.round().clamp(0, SIDE - 1).long()
    layer = torch.multinomial(LAYERS[y], HITS, replacement=True, generator=generator)
    # More energy, more hits: from a quarter of them on.
    alive = torch.arange(HITS) < HITS * energy / 4
    weight = -torch.rand(COUNT, HITS, generator=generator).clamp(min=1e-6).log() * alive
    measured = energy * (1 + 0.05 * torch.randn(COUNT, 1, generator=generator).clamp(-1, 1))
    deposit = weight / weight.sum(1, keepdim=True) * measured
    x = torch.zeros(COUNT, 3 * SIDE * SIDE)
    x.scatter_add_(1, (layer * SIDE + cell[:, :, 1]) * SIDE + cell[:, :, 0], deposit)
    return Dataset("calo8", {"x": x.view(COUNT, 3, SIDE, SIDE), "energy": energy, "y": y}, classes=2)


@dataclass(frozen=True)
class Detector:
    """Reads showers (N, 3, 8, 8)."""

    def energy(self, showers: Tensor) -> Tensor:
        """Total energy (N,)."""
        return showers.sum((1, 2, 3))

    def sparsity(self, showers: Tensor) -> Tensor:
        """Share (N,) of cells that are exactly 0."""
        return (showers == 0).float().mean((1, 2, 3))

    def layers(self, showers: Tensor) -> Tensor:
        """Share (N, 3) of the energy in each layer."""
        return showers.sum((2, 3)) / self.energy(showers).clamp(min=1e-6)[:, None]

    def width(self, showers: Tensor) -> Tensor:
        """Root mean square distance (N,), in cells, of the energy from its own centre, across all layers."""
        flat = showers.sum(1)
        flat = flat / flat.sum((1, 2), keepdim=True).clamp(min=1e-6)
        axis = torch.arange(SIDE, device=showers.device, dtype=showers.dtype)
        total = torch.zeros(len(showers), device=showers.device, dtype=showers.dtype)
        for profile in (flat.sum(1), flat.sum(2)):
            mean = (profile * axis).sum(1, keepdim=True)
            total = total + (profile * (axis - mean) ** 2).sum(1)
        return total.clamp(min=0).sqrt()

    def predict(self, showers: Tensor) -> Tensor:
        """Class (N,): wide and deep, or narrow and early."""
        depth = self.layers(showers)[:, 2] - self.layers(showers)[:, 0]
        return ((self.width(showers) - 1.5) + depth > 0).long()


@cache
def calo8_oracle() -> Detector:
    """Reads energy, sparsity, shares of layers, width and class."""
    return Detector()
