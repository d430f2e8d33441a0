"""The loop: phases -> named terms -> weighted sums -> steps. It knows no loss, no network and no variant.

Reading order: `Trainer.step`, `Trainer._update`, `Trainer._backward`. Between two calls of `tick` nothing waits for the device,
save a phase's `when` and the fp16 scaler.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gancore.core import Batch, DataSpec, Diverged, Field, Nets, Options, Phase, Recipe, Source, Stage, Terms, UsageError
from gancore.core.attached import attached, restore
from gancore.core.average import Average
from gancore.core.checks import check, phases
from gancore.core.ranges import annotate
from gancore.core.recompute import recomputed
from gancore.core.rows import Rows

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Networks, optimisers, random state and data position of one run, and the step that advances them.

    Build it with a recipe, a data set on the device, the options and the data specification; call `step` inside
    `with trainer.random():`. `state_dict` holds everything that the next step depends on: a run that is resumed from it goes on
    bit for bit.
    """

    def __init__(self, recipe: Recipe, source: Source, options: Options, spec: DataSpec, device: torch.device) -> None:
        self.recipe, self.source, self.options, self.spec = recipe, source, options, spec
        self.device = device
        self.steps_done = 0
        with self._fork():
            torch.manual_seed(options.seed)
            self.nets = Nets(dict(recipe.nets(spec))).to(self.device)
            self._rng, self._inside = self._get_rng(), False
        check(recipe, self.nets, source, options)
        for module in self.nets.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = recipe.state().to(self.device)
        self.average = Average(self.nets, recipe.ema, options.ema)
        self._rows: dict[str, Rows] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._batch: Batch = {}
        self._clock, self._samples = time.perf_counter(), 0
        self._stage: Stage | None = None
        self._trainable = {p: [w for w in net.parameters() if w.requires_grad] for p, net in self.nets.items()}
        self._open = set(self.nets)
        self.optims, self.scalers = self._build_optims()
        self.state.optims = self.optims
        self._losses = {phase.name: self._compiled(phase) for phase in phases(recipe)}

    # -- one step ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Visit every phase of the current stage once."""
        stage = self._enter(self._stage_at(self.steps_done))
        self._batch = {}
        self._schedule()
        for phase in stage.phases:
            if self.steps_done % phase.every == 0:
                with annotate(phase.name):
                    for _ in range(phase.repeats):
                        self._visit(phase, stage)
        self.average.update(self.steps_done)
        self.steps_done += 1
        self.state.step.fill_(self.steps_done)
        self.state.progress.fill_(self.steps_done / self.options.steps)

    def _visit(self, phase: Phase, stage: Stage) -> None:
        if phase.when is not None and not phase.when(self.state):
            return
        if phase.draw or not self._batch:
            self._batch = self._draw(stage)
        self._unfreeze(phase.updates)
        if phase.prepare is not None:
            with torch.no_grad():
                self._batch = phase.prepare(self.nets, self._batch, self.state)
        terms = self._update(phase, self._batch)
        if phase.after is not None:
            with torch.no_grad():
                phase.after(self.nets, self.state, terms)
        self._note(phase, terms)

    def _update(self, phase: Phase, batch: Batch) -> Terms:
        optims = {player: self.optims[self._key(phase, player)] for player in phase.updates}
        if phase.step is not None:
            with self._autocast():
                terms = phase.step(self.nets, batch, self.state, optims)
            return {name: t.detach().mean() for name, t in terms.items()}
        for optim in optims.values():
            optim.zero_grad(set_to_none=True)
        means: Terms = {}
        for micro, share in self._split(batch):
            with self._autocast(), recomputed(self.nets, self.options.recompute):
                terms = self._losses[phase.name](self.nets, micro, self.state)
            averaged = {name: t.float().mean() if t.dim() else t.float() for name, t in terms.items()}
            self._backward(phase, averaged, share)
            for name, t in averaged.items():
                means[name] = means[name] + share * t.detach() if name in means else share * t.detach()
        for player, optim in optims.items():
            self._apply(phase, player, optim)
        return means

    def _backward(self, phase: Phase, terms: Terms, share: float) -> None:
        routes = self._routes(phase)
        for i, (players, scaler) in enumerate(routes):
            route = phase.updates[players[0]]
            missing = [name for name in route if name not in terms]
            if missing:
                raise UsageError(f"phase {phase.name!r} routes {missing[0]!r}, but its loss returns {', '.join(terms)}")
            total = sum(_weight(w, self.state) * terms[name] for name, w in route.items()) * share
            total = total if scaler is None else scaler.scale(total)
            # With one route everything else is frozen; naming the inputs matters where several routes leave one graph.
            inputs = [w for p in players for w in self._trainable[p]] if len(routes) > 1 else None
            total.backward(inputs=inputs, retain_graph=i < len(routes) - 1)

    def _routes(self, phase: Phase) -> list[tuple[list[str], torch.amp.GradScaler | None]]:
        groups: list[tuple[list[str], torch.amp.GradScaler | None]] = []
        for player, route in phase.updates.items():
            scaler = self.scalers.get(self._key(phase, player))
            for players, other in groups:
                if scaler is other and dict(phase.updates[players[0]]) == dict(route):
                    players.append(player)
                    break
            else:
                groups.append(([player], scaler))
        return groups

    def _apply(self, phase: Phase, player: str, optim: torch.optim.Optimizer) -> None:
        scaler = self.scalers.get(self._key(phase, player))
        if self.options.clip:
            if scaler is not None:
                scaler.unscale_(optim)
            nn.utils.clip_grad_norm_(self._trainable[player], self.options.clip)
        if scaler is None:
            optim.step()
        else:
            scaler.step(optim)
            scaler.update()

    # -- what a step needs ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _draw(self, stage: Stage) -> Batch:
        data, n = stage.data if stage.data is not None else self.recipe.data, self.options.batch_size
        self._samples += n
        if not isinstance(data, Mapping):
            return data(self.nets, self.state, n)
        taken: dict[str, Batch] = {}
        batch: Batch = {}
        for key, stream in data.items():
            if not isinstance(stream, Field):
                batch[key] = stream(self.nets, n)
                continue
            if stream.group not in taken:
                taken[stream.group] = self._part(stream.group).take(self._rows_of(stream.group).next(n))
            batch[key] = taken[stream.group][stream.name]
        return batch

    def _rows_of(self, group: str) -> Rows:
        if group not in self._rows:
            # The same seed must give different groups different orders.
            seed = self.options.seed * 1009 + sum(ord(c) * 31**i for i, c in enumerate(group))
            self._rows[group] = Rows(len(self._part(group)), seed, self.device)
        return self._rows[group]

    def _part(self, group: str) -> Source:
        return self.source.parts.get(group, self.source)

    def _split(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        size, n = self.options.micro_batch, max((len(t) for t in batch.values()), default=0)  # `prepare` may change it
        if not size or size >= n:
            yield batch, 1.0
            return
        parts = {name: t.split(size) for name, t in batch.items()}
        for i in range(math.ceil(n / size)):
            micro = {name: p[i] for name, p in parts.items()}
            yield micro, len(next(iter(micro.values()))) / n

    def _stage_at(self, step: int) -> Stage:
        total, passed = sum(s.share for s in self.recipe.stages), 0.0
        for stage in self.recipe.stages:
            passed += stage.share
            if step < round(self.options.steps * passed / total):
                return stage
        return self.recipe.stages[-1]

    def _enter(self, stage: Stage) -> Stage:
        if stage is not self._stage:
            self._stage = stage
            if stage.enter is not None:
                with torch.no_grad():
                    stage.enter(self.nets, self.state)
        return stage

    def release(self) -> None:
        """Give every player the `requires_grad` that its recipe built it with; phases freeze those that they do not update."""
        self._unfreeze(self.nets)

    def _unfreeze(self, players: Iterable[str]) -> None:
        wanted = set(players)
        for player in self._open ^ wanted:
            for weight in self._trainable[player]:
                weight.requires_grad_(player in wanted)
        self._open = wanted

    def _schedule(self) -> None:
        if self.options.schedule == "constant":
            return
        done = self.steps_done / self.options.steps
        factor = 1 - 0.95 * done if self.options.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        for optim in self.optims.values():
            for group in optim.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def _autocast(self) -> Any:
        dtype = _DTYPES.get(self.options.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @staticmethod
    def _key(phase: Phase, player: str) -> str:
        return f"{phase.name}/{player}" if player in phase.optims else player

    def _build_optims(self) -> tuple[dict[str, torch.optim.Optimizer], dict[str, torch.amp.GradScaler]]:
        optims: dict[str, torch.optim.Optimizer] = {}
        for phase in phases(self.recipe):
            for player in phase.updates:
                key = self._key(phase, player)
                if key not in optims:
                    value = phase.optims.get(player) or self.recipe.optims[player]
                    optims[key] = replace(value, lr=value.lr * self.options.lr_factor).build(self._trainable[player])
        half = self.options.precision == "fp16"
        return optims, {key: torch.amp.GradScaler(self.device.type) for key in optims} if half else {}

    def _compiled(self, phase: Phase) -> Any:
        mode = self.options.compile
        if mode == "auto":
            mode = "off" if self.device.type == "cpu" or self.options.steps < 2000 else "default"
        if mode == "off" or phase.loss is None:
            return phase.loss
        compiled = torch.compile(phase.loss, mode=mode)
        if len(self._routes(phase)) == 1:
            return compiled

        def keeping_buffers(*arguments: Any) -> Terms:
            # Several backwards leave one graph, so none of them may reuse the buffers that the others read.
            with torch._functorch.config.patch(donated_buffer=False):
                return compiled(*arguments)

        return keeping_buffers

    # -- what is observed -------------------------------------------------------------------------------------------------

    def _note(self, phase: Phase, terms: Terms) -> None:
        for name, value in terms.items():
            key = f"{phase.name}/{name}"
            self._sums[key] = self._sums[key] + value if key in self._sums else value
            self._counts[key] = self._counts.get(key, 0) + 1

    def tick(self) -> dict[str, Any]:
        """A log record: means of all terms since the last one, the state's scalars, speed. Waits for the device.

        Raises Diverged if a term or a weight is NaN or infinite.
        """
        record: dict[str, Any] = {"step": self.steps_done, "stage": self._stage.name if self._stage else ""}
        values = {key: value / self._counts[key] for key, value in self._sums.items()}
        for name, value in (*self.state.log.items(), *self.state.named_buffers()):
            if name not in ("step", "progress") and value.numel() == 1:
                values[f"state/{name}"] = value.detach().float().reshape(())
        if values:
            record.update(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        now = time.perf_counter()
        record["speed"] = self._samples / max(now - self._clock, 1e-9)
        self._sums, self._counts, self._samples, self._clock = {}, {}, 0, now
        broken = [key for key in values if not math.isfinite(record[key]) and not key.startswith("state/")]
        if broken:
            raise Diverged(f"{broken[0]} is {record[broken[0]]} at step {self.steps_done}: lower the learning rate or clip")
        self.check_weights()
        return record

    def start_clock(self) -> None:
        """Measure speed from here: what happens between two ticks besides steps is no part of it."""
        self._clock = time.perf_counter()

    def check_weights(self) -> None:
        """Raise Diverged if a weight is NaN or infinite. Waits for the device."""
        for player, net in self.nets.items():
            weights = [w.detach() for w in net.parameters()]
            if weights and not torch.stack(torch._foreach_norm(weights, math.inf)).sum().isfinite():
                raise Diverged(f"a weight of {player} is not finite at step {self.steps_done}: lower the learning rate or clip")

    # -- state ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors, numbers and strings only."""
        return {
            "steps_done": self.steps_done,
            "nets": self.nets.state_dict(),
            "attached": attached(self.nets),
            "average": self.average.copies.state_dict(),
            "state": self.state.state_dict(),
            "optims": {key: o.state_dict() for key, o in self.optims.items()},
            "scalers": {key: s.state_dict() for key, s in self.scalers.items()},
            "rows": {group: r.state_dict() for group, r in self._rows.items()},
            "rng": self._get_rng() if self._inside else self._rng,
            "log": {name: value.detach() for name, value in self.state.log.items()},
            "sums": self._sums,
            "counts": self._counts,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Return to a saved state. Hooks of stages that were already entered run first, so that what they built exists."""
        self.steps_done = saved["steps_done"]
        reached = self._stage_at(max(self.steps_done - 1, 0))
        entered = list(self.recipe.stages)[: list(self.recipe.stages).index(reached) + 1]
        with self._fork():
            for stage in entered if self.steps_done else ():
                self._enter(stage)
        self.nets.load_state_dict(saved["nets"])
        restore(self.nets, saved.get("attached", {}))  # of checkpoints without, there was none
        self.average.copies.load_state_dict(saved["average"])
        self.state.load_state_dict(saved["state"])
        for key, optim in self.optims.items():
            optim.load_state_dict(saved["optims"][key])
        for key, scaler in self.scalers.items():
            scaler.load_state_dict(saved["scalers"][key])
        for group, position in saved["rows"].items():
            self._rows_of(group).load_state_dict(position)
        self._rng = saved["rng"]
        self.state.log = {name: value.to(self.device) for name, value in saved["log"].items()}
        self._sums = {key: value.to(self.device) for key, value in saved["sums"].items()}
        self._counts = dict(saved["counts"])

    @contextmanager
    def random(self) -> Iterator[None]:
        """The run's own random state in place of the caller's, which comes back on leaving."""
        with self._fork():
            self._set_rng(self._rng)
            self._inside = True
            try:
                yield
            finally:
                self._rng, self._inside = self._get_rng(), False

    def _fork(self) -> Any:
        devices: Sequence[torch.device] = [self.device] if self.device.type == "cuda" else []
        return torch.random.fork_rng(devices)

    def _get_rng(self) -> dict[str, Tensor]:
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        return rng

    def _set_rng(self, rng: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(rng["cpu"].cpu())
        if "cuda" in rng:
            torch.cuda.set_rng_state(rng["cuda"].cpu(), self.device)


def _weight(weight: Any, state: nn.Module) -> Any:
    return weight(state) if callable(weight) else weight

