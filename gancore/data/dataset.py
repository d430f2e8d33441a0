"""A data set: named columns of equal length, small enough to live on the device."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gancore.core.errors import DataError

__all__ = ["DataError", "Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Columns of one source.

    fields: equal first dimension, at least "x". Pixels and voxels are uint8 with 0..255 standing for [-1, 1], images
        (N, C, H, W); anything else is float32 or int64. "y" (N,) int64 holds labels, where there are any.
    classes: number of classes of "y", 0 without labels.
    held_out: the test split, where the source has one.
    parts: further sets by name that recipes draw from beside this one, of any length: a second domain, unlabelled samples.

    Raises DataError where the columns contradict each other.
    """

    name: str
    fields: Mapping[str, Tensor]
    classes: int = 0
    held_out: "Dataset | None" = None
    parts: Mapping[str, "Dataset"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "x" not in self.fields:
            raise DataError(f"{self.name}: no column 'x', found {sorted(self.fields)}")
        lengths = {key: len(value) for key, value in self.fields.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.name}: columns of different lengths {lengths}")
        if not len(self):
            raise DataError(f"{self.name}: empty, expected at least one sample")
        if self.classes:
            y = self.fields.get("y")
            if y is None or y.dtype != torch.int64 or y.dim() != 1:
                raise DataError(f"{self.name}: {self.classes} classes need a column 'y' of int64 labels (N,)")
            low, high = int(y.min()), int(y.max())
            if low < 0 or high >= self.classes:
                raise DataError(f"{self.name}: labels {low}..{high}, expected 0..{self.classes - 1}")

    def __len__(self) -> int:
        return len(self.fields["x"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return tuple(self.fields["x"].shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether x is (C, H, W)."""
        return len(self.shape) == 3

    @property
    def device(self) -> torch.device:
        """Where the columns live."""
        return self.fields["x"].device

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and contents of the columns, in hexadecimal."""
        total = hashlib.sha256()
        for key in sorted(self.fields):
            value = self.fields[key].detach().cpu().contiguous()
            total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            total.update(value.numpy().tobytes())
        for name in sorted(self.parts):
            total.update(f"{name} {self.parts[name].digest()}\n".encode())
        return total.hexdigest()

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on `device`; uint8 stays uint8."""
        fields = {key: value.to(device) for key, value in self.fields.items()}
        parts = {key: part.to(device) for key, part in self.parts.items()}
        return replace(self, fields=fields, held_out=self.held_out and self.held_out.to(device), parts=parts)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Rows `index` (N,) of every column; uint8 becomes float32 in [-1, 1]."""
        rows = {key: value[index] for key, value in self.fields.items()}
        return {key: value / 127.5 - 1 if value.dtype == torch.uint8 else value for key, value in rows.items()}

    def all(self) -> dict[str, Tensor]:
        """Every row, as `take` gives it."""
        return self.take(torch.arange(len(self), device=self.device))
