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


def _columns(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    magnitude = torch.rand(count, 1, generator=generator)
    energy = 100**magnitude
    centre = (SIDE - 1) / 2 + 0.5 * torch.randn(count, 1, 2, generator=generator)
    place = centre + WIDTHS[y][:, None, None] * torch.randn(count, HITS, 2, generator=generator)
    cell = place.round().clamp(0, SIDE - 1).long()
    layer = torch.multinomial(LAYERS[y], HITS, replacement=True, generator=generator)
    # More energy, more hits: from a quarter of them on.
    alive = torch.arange(HITS) < HITS * (0.25 + 0.75 * magnitude)
    weight = -torch.rand(count, HITS, generator=generator).clamp(min=1e-6).log() * alive
    measured = energy * (1 + 0.05 * torch.randn(count, 1, generator=generator).clamp(-1, 1))
    deposit = weight / weight.sum(1, keepdim=True) * measured
    x = torch.zeros(count, 3 * SIDE * SIDE)
    x.scatter_add_(1, (layer * SIDE + cell[:, :, 1]) * SIDE + cell[:, :, 0], deposit)
    return {"x": x.view(count, 3, SIDE, SIDE), "energy": energy, "y": y}


@cache
def calo8() -> Dataset:
    """8,192 showers x (N, 3, 8, 8) float32, three layers of deposits, non-negative and mostly exactly 0.

    "energy" (N, 1) float32, log-uniform in [1, 100], is the nominal energy, which the deposits add up to within 5 %. y: narrow
    showers that stop early (0), wide ones that go deep (1). `held_out` holds 1,024 other showers.
    """
    held_out = Dataset("calo8 held out", _columns(1_024, 89), classes=2)
    return Dataset("calo8", _columns(COUNT, 88), classes=2, held_out=held_out)


@dataclass(frozen=True)
class Detector:
    """Reads showers (N, layers, 8, 8): all three layers, or fewer where no more is said."""

    def energy(self, showers: Tensor) -> Tensor:
        """Total energy (N,)."""
        return showers.sum((1, 2, 3))

    def sparsity(self, showers: Tensor) -> Tensor:
        """Share (N,) of cells that are exactly 0."""
        return (showers == 0).float().mean((1, 2, 3))

    def layers(self, showers: Tensor) -> Tensor:
        """Share (N, layers) of the energy in each layer."""
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
        """Class (N,) of showers (N, 3, 8, 8): wide and deep, or narrow and early."""
        depth = self.layers(showers)[:, 2] - self.layers(showers)[:, 0]
        return ((self.width(showers) - 1.5) + depth > 0).long()


@cache
def calo8_oracle() -> Detector:
    """Reads energy, sparsity, shares of layers, width and class."""
    return Detector()
