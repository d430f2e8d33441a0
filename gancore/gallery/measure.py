"""One recipe on one data set: trained, judged and drawn, as plain values for a JSON file."""

import base64
import io
import math
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gancore
from gancore import environment, evaluation
from gancore.core import DataError, Diverged, UsageError
from gancore.data import oracle
from gancore.gallery import protocol
from gancore.recipes import get
from gancore.runs import Run, command, open_run

POINTS, TILES, COLUMNS = 500, 80, 10
UNITS = 100  # of one unit of the plane: points are whole numbers
_GREYS = 16


class Clock:
    """A listener of `Run.train`: processor milliseconds a step between ticks, those left out in which samples are judged."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._step, self._at = 0, time.process_time()

    def __call__(self, run: Run, record: dict[str, Any]) -> None:
        """Take the time of the steps since the last tick."""
        if not run.saves(record["step"]):
            self.found.append(1e3 * (time.process_time() - self._at) / (record["step"] - self._step))
        self._step, self._at = record["step"], time.process_time()


def results(name: str, sets: list[str], steps: int = 0) -> dict[str, Any]:
    """A recipe on every one of the data sets, and the files of gancore that it imported, as paths inside the package."""
    found = {data: one(name, data, steps) for data in sets}
    root = Path(gancore.__file__).parent
    ours = [Path(str(module.__file__)) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "gancore"]
    # What the protocol says is held against each run: a recipe's settings make no other's result stale.
    files = sorted({str(path.relative_to(root)) for path in ours if path.suffix == ".py"} - {"gallery/protocol.py"})
    return {"recipe": name, "machine": environment.describe(torch.device("cpu")), "runs": found, "files": files}


def one(name: str, data: str, steps: int = 0) -> dict[str, Any]:
    """One run. Where it cannot be: "refused" with the reason gancore gives, "diverged", or "failed" with the exception."""
    entry = get(name, "recipe")
    arguments = protocol.arguments(entry, data, steps)
    found: dict[str, Any] = {"arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}}
    try:
        run = open_run(name, **arguments)
        run.sample(1)  # a recipe that draws nothing is not trained for it
        return {**found, **_trained(run)}
    except (UsageError, DataError) as error:
        return {**found, "refused": str(error)}
    except Diverged as error:
        return {**found, "diverged": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {**found, "failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}


def _trained(run: Run) -> dict[str, Any]:
    wall, processor, clock = time.perf_counter(), time.process_time(), Clock()
    run.train(clock)
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    sample = lambda n: evaluation.tensor_of(run.sample(n))
    found = {
        "scores": {k: _short(v) for k, v in evaluation.scores(sample, run.data).items()},
        "ms": _short(statistics.median(clock.found)), "seconds": round(processor, 1), "share": round(min(1.0, processor / wall), 2),
        "parameters": {player: sum(p.numel() for p in net.parameters()) for player, net in run.trainer.nets.items()},
        "labels": bool(run.classes), "command": command(run), "curves": columns(run.metrics),
    }  # fmt: skip
    if run.data.is_image:
        return {**found, "picture": mosaic(sample(TILES))}
    return {**found, "points": units(sample(POINTS)), "modes": len(oracle(run.data.name).centres)}


def columns(records: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Log records as columns: the steps, and each term, metric and state at them, None where a record has none."""
    keys = dict.fromkeys(key for record in records for key in record if "/" in key)
    number = lambda v: _short(v) if isinstance(v, int | float) and math.isfinite(v) else None
    return {"step": [r["step"] for r in records], **{key: [number(r.get(key)) for r in records] for key in keys}}


def units(points: Tensor) -> list[int]:
    """Points (N, 2) as x, y, x, y ... in whole hundredths, those that are not finite left out."""
    kept = points.float()[points.isfinite().all(1)]
    return (kept * UNITS).round().long().flatten().tolist()


def mosaic(images: Tensor) -> str:
    """Images (N, 1|3, H, W) in [-1, 1], ten in a row, pixel for pixel with white lines between: a PNG as a data URI."""
    from PIL import Image

    greys = images.float().nan_to_num(0.0).clamp(-1, 1).add(1).mul(_GREYS / 2).round().mul(255 / _GREYS).round().to(torch.uint8)
    channels, height, width = greys.shape[1:]
    rows = math.ceil(len(greys) / COLUMNS)
    sheet = torch.full((channels, rows * (height + 1) + 1, COLUMNS * (width + 1) + 1), 255, dtype=torch.uint8)
    for i, tile in enumerate(greys):
        top, left = i // COLUMNS * (height + 1) + 1, i % COLUMNS * (width + 1) + 1
        sheet[:, top : top + height, left : left + width] = tile
    picture = Image.fromarray((sheet[0] if channels == 1 else sheet.permute(1, 2, 0)).contiguous().numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _short(value: float) -> float:
    return float(f"{value:.4g}")
