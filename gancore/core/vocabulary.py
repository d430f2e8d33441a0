"""Phases, stages and recipes: who descends what, how often, as data.

A phase holds a pure function from (networks, batch, state) to named terms and, for each player it updates, the weights of the
terms that player descends (its route). The loop in `gancore.trainer` visits the phases of the current stage once a step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gancore.core.optim import Optim
from gancore.core.streams import Data, DataSpec, Draw, Field, noise

Batch = dict[str, Tensor]  # equal first dimensions
Terms = dict[str, Tensor]  # scalars, or (N,), which the loop averages


class Nets(nn.ModuleDict):
    """Players by name: nets["G"] and nets.G are the same module."""

    if TYPE_CHECKING:  # a player is whatever the recipe built, with methods of its own

        def __getitem__(self, key: str) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...


class State(nn.Module):
    """What a run knows beyond its networks, all of it in checkpoints.

    `State(k=0.0)` holds the float32 buffer `k`. Every state has `step` (int64, finished steps) and `progress` (float32, their
    share in [0, 1]). `log` takes values that are observed and not descended: name -> scalar tensor. `optims` holds the run's
    optimisers by player, for losses that look ahead of a step; reading is all they may do with them.
    """

    step: Tensor
    progress: Tensor

    if TYPE_CHECKING:  # buffers by the names that the recipe gave them

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **values: float | Tensor) -> None:
        super().__init__()
        self.log: dict[str, Tensor] = {}
        self.optims: Mapping[str, torch.optim.Optimizer] = {}
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("progress", torch.zeros(()))
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32).clone())


Weight = float | Callable[[State], Tensor]  # a number, or a ramp or controller read from the state; negative means ascent
Hook = Callable[[Nets, State], None]


@dataclass(frozen=True)
class Phase:
    """One kind of update.

    updates: player -> {term: weight}, the player's route. Players with equal routes share one backward; otherwise each route
        takes a backward of its own, for its players' parameters alone, from the one forward. All other players are frozen.
    loss: pure (nets, batch, state) -> terms; it is what is compiled, accumulated over micro-batches and run under autocast.
    repeats, every: `repeats` updates on each step that `every` divides.
    draw: whether each repeat draws a batch, or the last one of this step, as it was prepared, serves again.
    when: gate (state) -> bool, the one host synchronisation that is allowed.
    prepare: (nets, batch, state) -> batch without gradients and never compiled: image pools, rollouts, replay. Its result is
        the batch of this phase and of those after it that do not draw.
    after: (nets, state, terms) without gradients, after the update: clipping, controllers, retractions. Terms are means.
    step: (nets, batch, state, optimisers by player) -> terms; takes the place of loss, backward and optimiser step. Accumulation,
        clipping and fp16 do not reach it and are refused.
    optims: player -> optimiser, where a player needs a second optimiser state in this phase.
    whole_batch: the terms are statistics of the whole batch, so that accumulation over micro-batches is refused.
    """

    name: str
    updates: Mapping[str, Mapping[str, Weight]]
    loss: Callable[[Nets, Batch, State], Terms] | None = None
    repeats: int = 1
    every: int = 1
    draw: bool = True
    when: Callable[[State], bool] | None = None
    prepare: Callable[[Nets, Batch, State], Batch] | None = None
    after: Callable[[Nets, State, Terms], None] | None = None
    step: Callable[[Nets, Batch, State, Mapping[str, torch.optim.Optimizer]], Terms] | None = None
    optims: Mapping[str, Optim] = field(default_factory=dict)
    whole_batch: bool = False

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.step is None):
            raise ValueError(f"phase {self.name!r} needs a loss or a step of its own, one of the two")
        empty = [player for player, route in self.updates.items() if not route and self.loss is not None]
        if empty:
            raise ValueError(f"phase {self.name!r} routes no term to {empty[0]!r}: name at least one, or leave the player out")
        if self.repeats < 1 or self.every < 1:
            raise ValueError(f"phase {self.name!r}: repeats and every are at least 1, got {self.repeats} and {self.every}")


@dataclass(frozen=True)
class Stage:
    """A stretch of training: its phases, its share of the steps, its own data if any, and a hook run once on entering."""

    name: str
    share: float
    phases: Sequence[Phase]
    data: Data | None = None
    enter: Hook | None = None


def generate(nets: Nets, n: int, state: State, y: Tensor | None = None) -> Tensor:
    """n samples of player G. A conditional G gets labels `y` (n,), by default every class in equal shares."""
    generator = nets["G"]
    z = noise("G")(nets, n)
    count = getattr(generator, "classes", 0)
    if not count:
        return generator(z)
    labels = torch.arange(n, device=z.device) % count if y is None else y.to(z.device)
    return generator(z, labels)


@dataclass(frozen=True)
class Recipe:
    """A system as data: its players, their optimisers, and the stages of phases that train them.

    nets: builds the players for a data specification; they partition the parameters, a shared trunk is a player of its own.
    optims: player -> optimiser, for every player that some phase updates.
    data: name in the batch -> column or draw; or a function (nets, state, n) -> batch.
    ema: the players whose moving average is kept.
    sample: (nets, n, state, **conditions) -> samples.
    apply: what the trained system does beyond sampling: encode, translate, segment, act.
    evaluate: (nets, data set, state) -> figures of its own for the log.
    """

    nets: Callable[[DataSpec], Mapping[str, nn.Module]]
    optims: Mapping[str, Optim]
    stages: Sequence[Stage]
    data: Data = field(default_factory=lambda: dict[str, Field | Draw](x=Field("x"), z=noise("G")))
    state: Callable[[], State] = State
    ema: Sequence[str] = ("G",)
    sample: Callable[..., Tensor | dict[str, Tensor]] | None = generate
    apply: Callable[..., Tensor] | None = None
    evaluate: Callable[..., dict[str, float]] | None = None

