"""How large a batch fits into memory: one real step at a time, measured, until the largest is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from gancore.core import Options, UsageError
from gancore.core.options import AUTO
from gancore.memory import estimate
from gancore.trainer import Trainer

_STEP = 8  # batch sizes are multiples of it


def resolved(options: Options, device: torch.device, build: Callable[[Options], Trainer]) -> Options:
    """The options with "auto" replaced: a batch_size that fits into `memory`, or for a given one the micro_batch that does.

    build: makes a trainer, of which a step is taken and which is thrown away. Raises UsageError where not even the smallest fits.
    """
    if AUTO not in (options.batch_size, options.micro_batch):
        return options
    budget = options.memory * 1e9 or free(device)
    most = largest(lambda size: _bytes(options, size, device, build), budget, build(_trial(options, _STEP)).source.__len__())
    if options.batch_size == AUTO:
        return replace(options, batch_size=most, micro_batch=max(options.micro_batch, 0))
    return replace(options, micro_batch=0 if most >= options.batch_size else most)


def largest(need: Callable[[int], float], budget: float, most: int) -> int:
    """The largest multiple of 8, at most `most`, whose measured need is within the budget.

    Need grows with the batch on top of what does not: two measurements foretell the size, further ones correct it.
    """
    small, twice = need(_STEP), need(2 * _STEP)
    if small > budget:
        raise UsageError(f"a batch of {_STEP} needs {small / 1e9:.3g} GB, and memory is {budget / 1e9:.3g}: take smaller networks")
    fits, fails = _STEP, most // _STEP * _STEP + _STEP
    slope, base = max((twice - small) / _STEP, 1.0), 2 * small - twice
    while fails - fits > _STEP:
        guess = int((budget - base) / slope) // _STEP * _STEP
        size = min(max(guess, fits + _STEP), fails - _STEP)
        found = need(size)
        if found <= budget:
            fits = size
        else:
            fails = size
        if found != float("inf"):
            slope = max((found - base) / size, 1.0)
        if fits == size and guess <= size and fails - fits > _STEP and need(size + _STEP) > budget:
            fails = size + _STEP
    return fits


def free(device: torch.device) -> float:
    """Bytes that the device could give now. Raises UsageError where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    for line in lines:
        if line.startswith("MemAvailable"):
            return 1024.0 * int(line.split()[1])
    raise UsageError("this system does not tell how much memory is free: give memory, in GB")


def _trial(options: Options, size: int) -> Options:
    # The hooks that measure memory see nothing inside compiled code.
    return replace(options, batch_size=size, micro_batch=0, compile="off", out="")


def _bytes(options: Options, size: int, device: torch.device, build: Callable[[Options], Trainer]) -> float:
    try:
        found = estimate(build(_trial(options, size)))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return float("inf")
    return float(found.get("peak", found["total"]))
