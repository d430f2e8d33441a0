"""Where a batch comes from: columns of the data set, and noise drawn for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gancore.core.vocabulary import Batch, Nets, State

Draw = Callable[["Nets", int], Tensor]


@dataclass(frozen=True)
class DataSpec:
    """What networks need to know of the data.

    shape: of one sample, (features,) or (channels, height, width).
    classes: number of labels, 0 where there are none.
    net: the body that `gancore.nets` builds, "toy" or "dcgan".
    width: its base width, 0 for the body's own default.
    """

    shape: tuple[int, ...]
    classes: int = 0
    net: str = "toy"
    width: int = 0


@dataclass(frozen=True)
class Field:
    """A column of the data set. Columns of one `group` come from the same rows, those of another are drawn independently.

    Where the data set has a part of the group's name (a second domain, an unlabelled half), the column is that part's.
    """

    name: str
    group: str = ""


Data = Mapping[str, Field | Draw] | Callable[["Nets", "State", int], "Batch"]


class Source(Protocol):
    """A data set as the loop sees it; `gancore.data.Dataset` is one."""

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Tensor]: ...

    @property
    def classes(self) -> int: ...

    @property
    def parts(self) -> Mapping[str, "Source"]: ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Rows `index` (N,) of every column, images as float32 in [-1, 1]."""
        ...


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's first parameter."""
    return next(module.parameters()).device


def noise(player: str = "G") -> Draw:
    """Standard normal codes (n, latent) of the size that `player` takes."""
    return lambda nets, n: torch.randn(n, nets[player].latent, device=device_of(nets[player]))


def classes(player: str = "G") -> Draw:
    """Labels (n,) drawn evenly from the classes that `player` is conditioned on."""
    return lambda nets, n: torch.randint(nets[player].classes, (n,), device=device_of(nets[player]))
