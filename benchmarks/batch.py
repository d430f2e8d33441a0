"""Throughput of recipes' training steps over the batch size, and the memory that each batch takes.

    gancore bench batch                measure, print, write benchmarks/results/batch-<device>.json and its page with the plot
    gancore bench batch --quick        small batches; writes nothing
    gancore bench batch --row dcgan    this recipe only; the file's others are kept

The batches of a recipe take turns in one process. The curve ends where a batch outruns the memory or its time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator

from gancore import environment
from gancore.benchmarks import compare, files, page, timing
from gancore.benchmarks.suite import Asked, Table
from gancore.capacity import free
from gancore.core import Options, UsageError
from gancore.data import Dataset
from gancore.memory import estimate
from gancore.recipes import get
from gancore.runs import specify
from gancore.trainer import Trainer

RECIPES = ("dcgan", "wgan-gp", "mmd-gan")
_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_QUICK_SIZES = (4, 8)
_LONGEST = 10.0  # seconds of a step beyond which larger batches tell no more


def trainer_of(recipe: str, batch: int, device: torch.device, side: int, width: int, **options: Any) -> Trainer:
    """A trainer on images of noise, three channels of that side: what they show changes no time, and no package makes them."""
    generator = Generator().manual_seed(0)
    dataset = Dataset("noise", {"x": torch.randint(256, (4096, 3, side, side), generator=generator, dtype=torch.uint8)})
    chosen = Options(width=width, batch_size=batch, steps=1_000_000, **options)
    return Trainer(get(recipe, "recipe").function(), dataset.to(device), chosen, specify(dataset, chosen), device)


def measure(recipe: str, device: torch.device, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The result of a row: a point a batch size, with samples a second and bytes held."""
    small = quick or device.type == "cpu"
    side, width, points = (16 if small else 64), (16 if small else 64), list[dict[str, Any]]()
    for batch in _QUICK_SIZES if quick else _SIZES:
        held = estimate(trainer_of(recipe, batch, device, side, width, compile="off"))
        trainer = trainer_of(recipe, batch, device, side, width, compile="off" if quick else "auto")

        def run(trainer: Trainer = trainer) -> None:
            with trainer.random():
                trainer.step()

        run()
        first = timing.once(run)
        spent = [first, *(timing.once(run) for _ in range(2 if quick else max(2, min(30, int(3 / first)))))]
        body = timing.summary(spent, spent)
        bytes_ = held.get("peak", held["total"])
        body |= {"samples_per_second": round(1e3 * batch / body["ms"], 1), "mb": round(bytes_ / 1e6, 2)}
        points.append({"case": f"batch {batch}", "shape": str(batch), "work": "step", "dtype": "float32", "bodies": {"ours": body}})
        say(f"{recipe}: batch {batch}: {body['samples_per_second']:,.0f} samples/s, {body['mb']} MB")
        if 2 * bytes_ > free(device) or 2 * first > _LONGEST:
            break
    return {"row": recipe, "commit": environment.commit(), "case": f"{side} x {side}, width {width}", "points": points}


HEADINGS = ("recipe", "batch", "ms a step", "quartiles", "samples/s", "MB")


def lines(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line a batch."""
    found: list[tuple[str, ...]] = []
    for row in result["rows"]:
        for point in row["points"]:
            b = point["bodies"]["ours"]
            spread = " to ".join(f"{t:.4g}" for t in b["quartiles"])
            speed = f"{b['samples_per_second']:,.0f}"
            found.append((row["row"], point["shape"], f"{b['ms']:.4g}", spread, speed, f"{b['mb']:.4g}"))
    return found


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, write the result and its page, and return the table."""
    if unknown := [name for name in asked.rows if name not in RECIPES]:
        raise UsageError(f"batch has no row {unknown[0]!r}; there are {', '.join(RECIPES)}")
    device = environment.pick_device(asked.device)
    own = files.path_of("batch", device.type)
    path = asked.out or (None if asked.quick else own)
    if asked.table:
        result = files.load("batch", asked.out or own)
    else:
        head = lambda: {**files.about(device), "machine": None, "quick": asked.quick}
        one = lambda name: measure(name, device, asked.quick, say)
        result = files.measured("batch", path, list(RECIPES), list(asked.rows or RECIPES), one, head)
    if path:
        page.offered(result, path, say)
    compare.tell(asked.old, result, say)
    return HEADINGS, lines(result)
