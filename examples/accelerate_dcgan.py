"""gancore's operators in a DCGAN that knows nothing of them.

    python examples/accelerate_dcgan.py            accelerated
    python examples/accelerate_dcgan.py --plain    as it was

Both runs print the same losses: the networks keep their modules, parameters and keys, and only the way in which they are computed
changes.
"""

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import gancore


def generator(latent: int = 32, width: int = 16) -> nn.Sequential:
    """Codes (N, latent, 1, 1) to images (N, 1, 32, 32)."""
    sizes = [latent, 4 * width, 2 * width, width]
    layers: list[nn.Module] = []
    for i in range(3):
        stride, padding = (2, 1) if i else (1, 0)
        layers += [nn.ConvTranspose2d(sizes[i], sizes[i + 1], 4, stride, padding, bias=False), nn.BatchNorm2d(sizes[i + 1])]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())


def critic(width: int = 16) -> nn.Sequential:
    """Images to scores (N, 1)."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * width, 1, 8), nn.Flatten()),
    )


def discs(n: int) -> Tensor:
    """n images of a bright disc somewhere."""
    axis = torch.linspace(-1, 1, 32)
    x, y = (torch.rand(n, 1, 1, 1) - 0.5 for _ in range(2))
    distance = (axis.view(1, 1, 1, -1) - x) ** 2 + (axis.view(1, 1, -1, 1) - y) ** 2
    return 2 * torch.sigmoid(20 * (0.2 - distance)) - 1


def train(accelerated: bool, steps: int = 40, batch: int = 32) -> list[float]:
    """The generator's loss of every step."""
    torch.manual_seed(0)
    G, D = generator(), critic()
    if accelerated:
        for net in (G, D):
            print(gancore.accelerate(net).acceleration_report)
    optims = [torch.optim.Adam(net.parameters(), 5e-4, betas=(0.5, 0.999)) for net in (D, G)]
    history = []
    for _ in range(steps):
        z = torch.randn(batch, 32, 1, 1)
        losses = (
            lambda z=z: softplus(-D(discs(batch))).mean() + softplus(D(G(z).detach())).mean(),
            lambda z=z: softplus(-D(G(z))).mean(),
        )
        for optim, loss in zip(optims, losses, strict=True):
            optim.zero_grad()
            value = loss()
            value.backward()
            optim.step()
        history.append(value.item())
    return history


if __name__ == "__main__":
    start = time.perf_counter()
    history = train("--plain" not in sys.argv)
    print(f"loss of G from {history[0]:.4f} to {history[-1]:.4f} in {len(history)} steps, {time.perf_counter() - start:.1f} s")
