"""Critics and penalties written out, for the tests of gradient penalties."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gancore.layers import ConvBiasAct2d

N = 6


class Residual(nn.Module):
    """x + f(x), f smooth, with normalisations of single samples."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        norms = nn.GroupNorm(2, channels), nn.InstanceNorm2d(channels, affine=True)
        convs = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(norms[0], nn.SiLU(), next(convs), norms[1], nn.ELU(), next(convs))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Labelled(nn.Module):
    """A projection critic of points and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = nn.Sequential(nn.Linear(3, 5), nn.Tanh()), nn.Embedding(4, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.body(x)
        return h.sum(1) + (h * self.classes(y)).sum(1)


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 1))


def plain() -> nn.Module:
    convs = nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 4, 2, 1), nn.LeakyReLU(0.2)
    return nn.Sequential(*convs, nn.Flatten(), nn.Linear(24, 1))


def residual() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), Residual(4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 1))


def fused() -> nn.Module:
    first = ConvBiasAct2d(3, 4, 3, padding=1, act="tanh", impl="native")
    second = ConvBiasAct2d(4, 6, 4, 2, 1, act="silu", impl="native")
    return nn.Sequential(first, second, ConvBiasAct2d(6, 6, 4, 2, 1, act="leaky_relu"), nn.Flatten(), nn.Linear(24, 1))


def spectral() -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Linear(3, 8)), nn.Tanh(), spectral_norm(nn.Linear(8, 1)))


CRITICS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "smooth": (smooth, (3,)),
    "convolutions": (plain, (3, 8, 8)),
    "residual": (residual, (3, 8, 8)),
    "fused": (fused, (3, 8, 8)),
    "spectral": (spectral, (3,)),
    "labelled": (Labelled, (3,)),
}


def made(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A critic in float32 and the tensors that a penalty of it needs: real, fake, eps, noise, conditions."""
    torch.manual_seed(7)
    make, shape = CRITICS[name]
    critic = make()
    real, fake, noise = (torch.randn(N, *shape) for _ in range(3))
    conditions = (torch.arange(N) % 4,) if name == "labelled" else ()
    return critic, {"real": real, "fake": fake, "eps": torch.rand(N), "noise": noise, "conditions": conditions}


PENALTIES: dict[str, dict[str, Any]] = {
    "wgan-gp": {},
    "wgan-lp": {"one_sided": True, "center": 0.02},
    "r1": {"at": "real", "center": 0.0},
    "r2": {"at": "fake", "center": 0.0},
    "dragan": {"at": "around"},
    "norm 1": {"norm": 1},
    "norm inf": {"norm": float("inf")},
}


def cast(tensors: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {n: t.to(dtype) if isinstance(t, Tensor) else t for n, t in tensors.items()}


def written_out(
    critic: nn.Module, real: Tensor, fake: Tensor, eps: Tensor, noise: Tensor, conditions: tuple[Tensor, ...], **settings: Any
) -> Tensor:
    """The penalty as one writes it with autograd: the truth in float64, plain PyTorch in any other type."""
    share = eps.view(-1, *[1] * (real.dim() - 1))
    places = {"between": share * real + (1 - share) * fake, "real": real, "fake": fake, "around": real + noise}
    x = places[settings.get("at", "between")].detach().requires_grad_()
    (g,) = torch.autograd.grad(critic(x, *conditions).sum(), x, create_graph=True)
    g = g if g.dtype == torch.float64 else g.float()
    size = torch.linalg.vector_norm(g.flatten(1), settings.get("norm", 2), dim=1)
    off = size - settings.get("center", 1.0)
    return (off.clamp_min(0) if settings.get("one_sided") else off) ** 2


def gradients(critic: nn.Module, total: Tensor) -> dict[str, Tensor]:
    """The gradient of a number in every parameter, zero where there is none."""
    names, parameters = zip(*critic.named_parameters(), strict=True)
    found = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


def error(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> float:
    """The relative error of all gradients together; infinite where one is not finite."""
    apart = sum(float((found[n].double() - t).square().sum()) for n, t in truth.items())
    size = sum(float(t.square().sum()) for t in truth.values())
    return (apart / size) ** 0.5 if apart == apart else float("inf")
