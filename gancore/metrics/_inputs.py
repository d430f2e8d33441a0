"""What the scores share: images to features in batches, and the checks of what they are given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

_ROWS = 256


class Score(NamedTuple):
    """A mean over parts of the samples and the standard deviation between the parts (divisor: the number of parts)."""

    mean: float
    std: float


class FeatureNetwork(Protocol):
    """What judges images: x (N, C, H, W) in [-1, 1] -> features (N, D) and class probabilities (N, K)."""

    def features(self, x: Tensor) -> Tensor:
        """Features (N, D)."""
        ...

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, K); rows sum to 1."""
        ...


def features(name: str, x: Tensor, network: FeatureNetwork | None, batch: int, at_least: int = 2) -> Tensor:
    """Float64 features (N, D) of the argument called `name`: x itself, or what `network` makes of images x."""
    return as_given(name, x, network, batch, at_least).double()


def as_given(name: str, x: Tensor, network: FeatureNetwork | None, batch: int, at_least: int = 2) -> Tensor:
    """The same features in the type that they have, no copy of x where x is features."""
    judge = None if network is None else network.features
    return _judged(name, x, judge, "features", batch, at_least)


def both(
    x: Tensor,
    y: Tensor,
    network: FeatureNetwork | None,
    batch: int,
    at_least: int = 2,
    read: Callable[..., Tensor] = features,
) -> tuple[Tensor, Tensor]:
    """Features (N, D) and (M, D) of samples x and data y, on the device of x's; ValueError if they differ in D.

    read: `features` or `as_given`.
    """
    a, b = read("x", x, network, batch, at_least), read("y", y, network, batch, at_least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"y: wants {a.shape[1]} features a sample, as x has, got {b.shape[1]}")
    return a, b.to(a.device)


def probabilities(name: str, x: Tensor, network: FeatureNetwork | None, batch: int, at_least: int) -> Tensor:
    """Float64 class probabilities (N, K) of the argument called `name`, checked to be such."""
    judge = None if network is None else network.probabilities
    p = _judged(name, x, judge, "class probabilities", batch, at_least).double()
    lowest, sums = float(p.min()), p.sum(1)
    if lowest < 0 or float((sums - 1).abs().max()) > 1e-3:
        got = f"values from {lowest:.4g} and sums from {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        raise ValueError(f"{name}: wants rows of probabilities that sum to 1 (softmax outputs, not logits), got {got}")
    return p


def _judged(name: str, x: Tensor, judge: Callable[[Tensor], Tensor] | None, what: str, batch: int, at_least: int) -> Tensor:
    _check_tensor(name, x)
    if judge is None:
        if x.dim() != 2:
            raise ValueError(f"{name}: wants {what} (N, D), got shape {tuple(x.shape)}; images need network=")
        found = x.detach()
    else:
        if x.dim() != 4:
            raise ValueError(f"{name}: with network= wants images (N, C, H, W), got shape {tuple(x.shape)}")
        if batch < 1:
            raise ValueError(f"batch: wants at least 1, got {batch}")
    if len(x) < at_least:
        raise ValueError(f"{name}: wants at least {at_least} samples, got {len(x)}")
    if judge is not None:
        found = _in_batches(judge, x, batch)
        if found.dim() != 2 or len(found) != len(x):
            raise ValueError(f"network: wants {what} ({len(x)}, D) of {len(x)} images, got shape {tuple(found.shape)}")
    if found.shape[1] == 0:
        raise ValueError(f"{name}: wants at least one column, got shape {tuple(found.shape)}")
    # A row's sum is finite where all of it is, and needs no second tensor; by parts, since what isfinite makes on its way is large.
    if not torch.isfinite(found.sum(1)).all():
        bad = sum(int((~torch.isfinite(part)).any(1).sum()) for part in found.split(_ROWS))
        if bad:
            raise ValueError(f"{name}: wants finite {what}, got NaN or inf in {bad} of {len(found)} rows")
    return found


def _check_tensor(name: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: wants a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise ValueError(f"{name}: wants floating point values (images in [-1, 1]), got {x.dtype}")


@torch.no_grad()
def _in_batches(judge: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> Tensor:
    owner = getattr(judge, "__self__", None)
    if not isinstance(owner, nn.Module):
        return torch.cat([judge(part) for part in x.split(batch)])
    home = next(owner.parameters(), x)
    with _evaluating(owner):
        return torch.cat([judge(part.to(home.device, torch.float32)) for part in x.split(batch)])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training
