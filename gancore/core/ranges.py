"""Named ranges for profilers: NVTX where its package is installed, else through PyTorch, which has them on a CUDA device only."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

try:
    import nvtx
except ImportError:  # of a machine that runs a checkout with nothing installed
    nvtx = None


def annotate(name: str) -> AbstractContextManager[Any]:
    """A range of the domain "gancore"."""
    if nvtx is not None:
        found: AbstractContextManager[Any] = nvtx.annotate(name, domain="gancore")
        return found
    return torch.cuda.nvtx.range(name) if torch.cuda.is_initialized() else nullcontext()
