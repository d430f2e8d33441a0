"""Training steps of recipes as rows of `gancore bench operators`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gancore.benchmarks import batch as batch_of
from gancore.benchmarks import timing
from gancore.benchmarks.cases import Refused

STEPS = ("dcgan", "wgan-gp", "mmd-gan")
_SECONDS, _QUICK_SECONDS = 3.0, 0.03
_ROUNDS, _QUICK_ROUNDS = (7, 60), (3, 8)


def measure(name: str, device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """The one point of a recipe's step."""
    size, width, batch = (16, 16, 32) if quick or device.type == "cpu" else (64, 64, 128)
    left_out = {"compiled": "left out of a quick run"} if quick else {}
    case = f"step, batch {batch}, {size} x {size}, width {width}"
    point = {"case": case, "shape": f"{batch}", "work": "step", "dtype": "float32"}

    def body(mode: str) -> Callable[[], Tensor]:
        how = {"ours": "off", "compiled": "default"}[mode]
        trainer = batch_of.trainer_of(name, batch, device, size, width, compile=how)

        def run() -> Tensor:
            with trainer.random():
                trainer.step()
            return next(trainer.nets["G"].parameters()).detach()

        return run

    def check(mode: str, found: Tensor) -> dict[str, float]:
        if not bool(found.isfinite().all()):
            raise Refused(f"{mode}, {name}: a weight is not finite after a step")
        return {}

    torch.compiler.reset()
    try:
        there = [mode for mode in ("ours", "compiled") if mode not in left_out]
        seconds, rounds = (_QUICK_SECONDS, _QUICK_ROUNDS) if quick else (_SECONDS, _ROUNDS)
        bodies = timing.compare(there, body, check, seconds, left_out, rounds)
        for row in bodies.values():
            row["samples_per_second"] = round(batch / (row["ms"] / 1e3), 1)
        yield {**point, "bodies": bodies, "left_out": left_out}
    except Refused as error:
        yield {**point, "refused": str(error), "left_out": left_out}
