"""The only place that imports triton. Without it the kernels stay importable and cannot be launched."""

from collections.abc import Callable
from typing import Any

import torch

try:
    import triton
    import triton.language as tl

    jit: Callable[..., Any] = triton.jit
    available = True
except ImportError:

    class _Absent:
        """Stands for `tl` in annotations."""

        constexpr = None

    tl = _Absent()
    jit = lambda fn: fn
    available = False

__all__ = ["INTERPRETED", "available", "jit", "launch", "missing", "tl"]


@jit
def _probe() -> None:
    pass


# Triton decides between its compiler and its interpreter when a kernel is defined.
INTERPRETED = available and not isinstance(_probe, triton.JITFunction)


def missing(device: torch.device) -> str | None:
    """What stands in the way of launching a kernel on this device; None if nothing does."""
    if not available:
        return "triton is not installed (pip install triton)"
    if device.type == "cpu" and not INTERPRETED:
        return "Triton kernels need tensors on a GPU (on a CPU only Triton's interpreter runs them: TRITON_INTERPRET=1)"
    if device.type not in ("cpu", "cuda"):
        return f"Triton kernels run on cuda and hip devices, not on {device.type!r}"
    return None


def launch(kernel: Any, programs: int, like: torch.Tensor, *args: Any, **options: Any) -> None:
    """Run `kernel` on a one-dimensional grid, on the device of `like`."""
    if like.device.type == "cuda":
        with torch.cuda.device(like.device):
            kernel[(programs,)](*args, **options)
        return
    # In Triton 3.6 under numpy 2.4 its loops end at no tensor, which is what it makes of numbers that are not constant.
    args = tuple(tl.constexpr(arg) if isinstance(arg, int) else arg for arg in args)
    # The interpreter truncates to bfloat16 where hardware rounds to nearest: it gets float32 copies, rounded afterwards.
    brief = {id(t): t for t in args if isinstance(t, torch.Tensor) and t.dtype == torch.bfloat16}
    wide = {key: t.float() for key, t in brief.items()}
    kernel[(programs,)](*(wide.get(id(arg), arg) for arg in args), **options)
    for key, t in brief.items():
        t.data.copy_(wide[key])  # not through t, whose version counter a kernel would leave alone too
