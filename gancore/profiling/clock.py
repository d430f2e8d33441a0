"""Where the time of a step goes by phase: a trainer whose parts are timed. The plain `Trainer` knows nothing of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from gancore.core import Batch, Phase, Stage, Terms
from gancore.core.ranges import annotate
from gancore.trainer import Trainer

PREFIX = "phase "


class Clock:
    """Exclusive seconds by name of nested spans; on a GPU those of its stream, from events."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stack: list[str] = []
        self._turns: list[tuple[str, Any]] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time in here is `name`'s, as far as it is not that of a span within."""
        with torch.profiler.record_function(PREFIX + name), annotate(name):
            self._stack.append(name)
            self._turn()
            try:
                yield
            finally:
                self._stack.pop()
                self._turn()

    def _turn(self) -> None:
        stamp: Any = time.perf_counter()
        if self.device.type == "cuda":
            stamp = torch.cuda.Event(enable_timing=True)
            stamp.record()
        self._turns.append((self._stack[-1] if self._stack else "", stamp))

    def read(self) -> dict[str, float]:
        """Seconds by name since the last reading; waits for the device."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.device)
        found: dict[str, float] = {}
        for (name, start), (_, end) in zip(self._turns, self._turns[1:], strict=False):
            if name:
                found[name] = found.get(name, 0.0) + (start.elapsed_time(end) / 1e3 if cuda else end - start)
        self._turns.clear()
        return found


class Watched(Trainer):
    """A trainer whose parts are spans: data, each phase's forward by its name, backward, optimiser, EMA, logging, and "loop",
    which is what lies between them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.clock = Clock(self.device)
        moving = self.average.update

        def update(step: int) -> None:
            with self.clock.span("EMA"):
                moving(step)

        vars(self.average)["update"] = update

    def step(self) -> None:
        """One step, and the log record where one is due."""
        with self.clock.span("loop"):
            super().step()
            if self.steps_done % self.options.log_every == 0:
                with self.clock.span("logging"):
                    self.tick()

    def _draw(self, stage: Stage) -> Batch:
        with self.clock.span("data"):
            return super()._draw(stage)

    def _update(self, phase: Phase, batch: Batch) -> Terms:
        with self.clock.span(phase.name):
            return super()._update(phase, batch)

    def _backward(self, phase: Phase, terms: Terms, share: float) -> None:
        with self.clock.span("backward"):
            super()._backward(phase, terms, share)

    def _apply(self, phase: Phase, player: str, optim: torch.optim.Optimizer) -> None:
        with self.clock.span("optimiser"):
            super()._apply(phase, player, optim)

    def _note(self, phase: Phase, terms: Terms) -> None:
        with self.clock.span("logging"):
            super()._note(phase, terms)

    def penalties(self, name: str) -> Any:
        """A span for what `gancore.kernels.profile_ranges` announces, if it is a penalty."""
        return self.clock.span("penalty") if name.endswith("gradient_penalty") else nullcontext()
