"""The order in which rows of a data set are visited: a fresh permutation for each epoch, a function of seed and position."""

import torch
from torch import Tensor


class Rows:
    """Row numbers for one group of columns. Every row once an epoch; a batch may cross from one epoch to the next."""

    def __init__(self, count: int, seed: int, device: torch.device) -> None:
        self.count, self.seed, self.device = count, seed, device
        self.epoch, self.position = 0, 0
        self._order = self._permutation()

    def _permutation(self) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        return torch.randperm(self.count, generator=generator).to(self.device)

    def next(self, n: int) -> Tensor:
        """The next n row numbers (n,), int64."""
        parts = []
        while n:
            part = self._order[self.position : self.position + n]
            parts.append(part)
            self.position += len(part)
            n -= len(part)
            if self.position == self.count:
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._permutation()
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def state_dict(self) -> dict[str, int]:
        """Epoch and position."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved epoch and position."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._permutation()
