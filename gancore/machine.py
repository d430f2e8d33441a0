"""What this machine can do at best: how fast it copies and multiplies, measured. All else is held against it."""

import time
from collections.abc import Callable
from typing import Any

import torch

_SECONDS = 0.3


def measure(device: torch.device, seconds: float = _SECONDS) -> dict[str, float]:
    """`copy`: bytes read and written a second by a copy far larger than the caches; `rate`: float32 operations a second of a
    matrix product, TF32 as PyTorch has it set. The best of many repetitions, since both are bounds."""
    count = 1 << 28 if device.type == "cuda" else 1 << 24
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    side = 8192 if device.type == "cuda" else 768
    a, b = torch.randn(2, side, side, device=device)
    product = torch.empty_like(a)
    return {
        "copy": 8 * count / best(lambda: target.copy_(source), device, seconds),
        "rate": 2 * side**3 / best(lambda: torch.mm(a, b, out=product), device, seconds),
    }


def best(body: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Seconds of the fastest of at least three calls."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    body()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        wait()
        start = time.perf_counter()
        body()
        wait()
        found.append(time.perf_counter() - start)
    return min(found)


def least_seconds(moved: float, operations: float, machine: dict[str, float]) -> float:
    """The roofline: what moving so many bytes and doing so many operations takes at least."""
    return max(moved / machine["copy"], operations / machine["rate"])
