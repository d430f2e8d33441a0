"""Statistics of several ranks as one: merged means and variances, added sums. Without a group, one rank's own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def name_of(op: str, group: object) -> str:
    """The name by which registered operators know a process group; "" for None."""
    if group is None or isinstance(group, str):
        return group or ""
    name = getattr(group, "group_name", None)
    if not isinstance(name, str):
        raise TypeError(f"{op}: process_group got {type(group).__name__}, wants a ProcessGroup, its name or None")
    return name


def _group(name: Any) -> Any:
    return torch.distributed.distributed_c10d._resolve_process_group(name)


def add(values: Tensor, group: str) -> Tensor:
    """The sum of all ranks' values, the same on each."""
    if group:
        torch.distributed.all_reduce(values, group=_group(group))
    return values


def together(parts: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, int]:
    """Mean, sum of squares about it and count of parts of which each is known, in double. Chan, Golub and LeVeque 1983."""
    if len(parts) == 1:
        return parts[0]
    means, squares = (torch.stack([part[i] for part in parts]) for i in (0, 1))  # type: ignore[misc]
    counts = means.new_tensor([[part[2]] for part in parts])
    # A part without elements has no mean.
    mean = torch.where(counts > 0, counts * means, 0).sum(0) / counts.sum().clamp_min(1)
    apart = torch.where(counts > 0, squares + counts * (means - mean).square(), 0)
    return mean, apart.sum(0), sum(part[2] for part in parts)


def merge(mean: Tensor, squares: Tensor, count: int, group: str) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of all ranks' elements from those of this one."""
    if group:
        size = torch.distributed.get_world_size(_group(group))
        own = torch.cat([mean, squares, mean.new_tensor([count])])
        ranks = [torch.empty_like(own) for _ in range(size)]
        torch.distributed.all_gather(ranks, own, group=_group(group))
        channels = len(mean)
        mean, squares, count = together([(r[:channels], r[channels:-1], int(r[-1])) for r in ranks])
    return mean, squares / max(count, 1)
