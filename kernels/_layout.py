"""Memory layouts. Kernels see dense tensors; of a tensor's shape they need only where a channel lies."""

import torch
from torch import Tensor


def matching(x: Tensor, like: Tensor) -> Tensor:
    """x itself where it lies in memory as the dense `like` does, else a copy that does."""
    if x.stride() == like.stride() or all(n == 1 or s == t for n, s, t in zip(x.shape, x.stride(), like.stride(), strict=True)):
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def format_of(x: Tensor) -> torch.memory_format:
    """channels_last where x is, contiguous else: what PyTorch's convolutions and norms return for it."""
    for ndim, kind in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        # Images of one pixel lie in both ways; their strides tell which was meant.
        if x.ndim == ndim and x.is_contiguous(memory_format=kind) and x.stride(1) == 1 and x.stride(-1) >= x.shape[1]:
            return kind
    return torch.contiguous_format


def empty_like(x: Tensor) -> Tensor:
    """Of x's shape and type, in `format_of` x."""
    return torch.empty_like(x, memory_format=format_of(x))


def channels(x: Tensor, dim: int) -> tuple[int, int]:
    """(C, inner) of a dense tensor: element i of its memory, counted from its start, belongs to channel i // inner % C.

    Holds for any order of the dimensions: channels_last has inner 1, the contiguous layout the product of the later sizes.
    """
    size = x.shape[dim]
    return (size, x.stride(dim)) if size > 1 else (1, 1)


def along(v: Tensor, ndim: int, dim: int) -> Tensor:
    """v (C,) shaped to broadcast along dimension `dim` of a tensor of `ndim` dimensions."""
    return v.view([-1 if d == dim % ndim else 1 for d in range(ndim)])


def along_batch(v: Tensor, ndim: int) -> Tensor:
    """v (N,), a number for each sample, shaped to broadcast to tensors (N, ...) of `ndim` dimensions; other shapes as they are,
    with dimensions of size one in front where they have fewer."""
    return v.view(-1, *[1] * (ndim - 1)) if v.ndim == 1 else v.view(*[1] * (ndim - v.ndim), *v.shape)


def by_sample(x: Tensor) -> Tensor:
    """The dense x where sample n is the n-th stretch of its memory, else an empty contiguous tensor of its shape and type."""
    whole = len(x) < 2 or x.stride(0) * len(x) == x.numel()
    return x if whole else torch.empty_like(x, memory_format=torch.contiguous_format)


def wide(kind: torch.dtype) -> torch.dtype:
    """The type to compute in for numbers stored as `kind`."""
    return torch.float32 if kind in (torch.float16, torch.bfloat16) else kind
