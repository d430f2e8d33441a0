"""What the training loop costs: gancore's DCGAN step against the same step written by hand, alternating in one process.

    gancore bench loop                   measure, print, and write benchmarks/results/loop-<device>.json
    gancore bench loop --quick           few pairs; writes nothing

Both do the same work on the same data: a batch from memory, a critic update, a generator update, the moving average of G. Blocks of
steps alternate, so that what else the machine does falls on both; the figure is the median ratio of neighbouring blocks.
"""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.nn import functional as F

from gancore import data, environment
from gancore.benchmarks.suite import Asked, Table
from gancore.core import DataError, DataSpec, Options, UsageError
from gancore.data import Dataset
from gancore.recipes import get
from gancore.trainer import Trainer

RESULTS = Path(__file__).resolve().parent / "results"
PAIRS, STEPS = 200, 5


class ByHand:
    """DCGAN on one screen, as one would write it without gancore; networks and settings are the trainer's."""

    def __init__(self, trainer: Trainer, dataset: Dataset, batch: int) -> None:
        self.G, self.D = copy.deepcopy(trainer.nets["G"]), copy.deepcopy(trainer.nets["D"])
        self.mean = copy.deepcopy(self.G).requires_grad_(False)
        self.dataset, self.batch, self.position = dataset, batch, 0
        self.order = torch.randperm(len(dataset), device=trainer.device)
        settings: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
        self.of_g = torch.optim.Adam(self.G.parameters(), **settings)
        self.of_d = torch.optim.Adam(self.D.parameters(), **settings)
        self.averaged = [t for t in (*self.mean.parameters(), *self.mean.buffers()) if t.is_floating_point()]
        self.present = [t for t in (*self.G.parameters(), *self.G.buffers()) if t.is_floating_point()]

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.position + self.batch > len(self.order):
            self.order, self.position = torch.randperm(len(self.dataset), device=self.order.device), 0
        rows = self.order[self.position : self.position + self.batch]
        self.position += self.batch
        return self.dataset.take(rows)["x"], torch.randn(self.batch, self.G.latent, device=rows.device)

    def step(self) -> None:
        real, z = self.draw()
        with torch.no_grad():
            fake = self.G(z)
        self.of_d.zero_grad()
        (F.softplus(-self.D(real)) + F.softplus(self.D(fake))).mean().backward()
        self.of_d.step()
        _, z = self.draw()
        self.D.requires_grad_(False)
        self.of_g.zero_grad()
        F.softplus(-self.D(self.G(z))).mean().backward()
        self.of_g.step()
        self.D.requires_grad_(True)
        torch._foreach_lerp_(self.averaged, [t.detach() for t in self.present], 0.005)


def measure(pairs: int, steps: int, options: Options) -> dict[str, Any]:
    """Seconds a step of both, and their ratio over `pairs` neighbouring blocks of `steps`."""
    device = environment.pick_device(options.device)
    dataset = data.load(options.data, size=options.size).to(device)
    spec = DataSpec(dataset.shape, dataset.classes, "dcgan", options.width)
    trainer = Trainer(get("dcgan").function(), dataset, options, spec, device)
    hand = ByHand(trainer, dataset, options.batch_size)
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def block(step: Any) -> float:
        sync()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        sync()
        return (time.perf_counter() - start) / steps

    with trainer.random():
        block(hand.step), block(trainer.step)
        rows = []
        for i in range(pairs):
            # Who goes first alternates as well: a drift of the machine favours neither.
            order = (hand.step, trainer.step) if i % 2 else (trainer.step, hand.step)
            seconds = [block(step) for step in order]
            rows.append(seconds if i % 2 else seconds[::-1])
    ratios = [ours / theirs for theirs, ours in rows]
    low, _, high = quantiles(ratios, n=4)
    return {
        "by_hand_ms": round(1e3 * median(r[0] for r in rows), 3),
        "gancore_ms": round(1e3 * median(r[1] for r in rows), 3),
        "ratio": round(median(ratios), 4),
        "ratio_quartiles": [round(low, 4), round(high, 4)],
        "pairs": pairs,
        "steps_a_block": steps,
        "batch_size": options.batch_size,
        "shape": list(dataset.shape),
        "width": options.width,
    }


def bench(asked: Asked, say: Callable[[str], None] = print) -> Table:
    """Measure, or read the file if only its table is asked for; one line."""
    if asked.rows:
        raise UsageError("loop has one row: leave --row out")
    device = environment.pick_device(asked.device)
    path = asked.out or RESULTS / f"loop-{device.type}.json"
    if asked.table:
        if not path.is_file():
            raise DataError(f"there is no {path}: measure it with gancore bench loop")
        row = json.loads(path.read_text())
    else:
        options = Options(data="digits", size=16, width=32, steps=1_000_000, device=asked.device)
        about = {"device": environment.describe(device), "versions": environment.versions(), "commit": environment.commit()}
        row = {**measure(10 if asked.quick else PAIRS, STEPS, options), **about}
        if asked.out or not asked.quick:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(row, indent=1) + "\n")
    low, high = row["ratio_quartiles"]
    line = (f"{row['by_hand_ms']}", f"{row['gancore_ms']}", f"{row['ratio']}", f"{low} to {high}")
    return ("by hand, ms a step", "gancore, ms", "ratio", "quartiles"), [line]
