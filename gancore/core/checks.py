"""What must hold between a recipe, its networks, the data and the options before the first step."""

from collections.abc import Iterator, Mapping

from gancore.core.errors import DataError, UsageError
from gancore.core.options import Options
from gancore.core.streams import Data, Field, Source
from gancore.core.vocabulary import Nets, Phase, Recipe


def phases(recipe: Recipe) -> Iterator[Phase]:
    """All phases of all stages."""
    for stage in recipe.stages:
        yield from stage.phases


def check(recipe: Recipe, nets: Nets, source: Source, options: Options) -> None:
    """Raise UsageError or DataError, naming the player, phase, column or option that does not fit."""
    _check_players(recipe, nets)
    for phase in phases(recipe):
        if phase.whole_batch and options.micro_batch and options.micro_batch < options.batch_size:
            raise UsageError(
                f"phase {phase.name!r} descends statistics of the whole batch: micro_batch must be 0, got {options.micro_batch}"
            )
        if phase.step is not None:
            _check_own_step(phase, options)
    for data in (recipe.data, *(s.data for s in recipe.stages if s.data is not None)):
        _check_columns(data, source)
    if len(source) == 0:
        raise DataError(f"{source.name}: the data set is empty")


def _check_own_step(phase: Phase, options: Options) -> None:
    refused = {"micro_batch": options.micro_batch, "clip": options.clip, "precision": options.precision == "fp16"}
    for name, asked in refused.items():
        if asked:
            raise UsageError(f"phase {phase.name!r} steps by its own rule, which {name}={getattr(options, name)} does not reach")


def _check_players(recipe: Recipe, nets: Nets) -> None:
    owner: dict[int, str] = {}
    for player, net in nets.items():
        for parameter in net.parameters():
            other = owner.setdefault(id(parameter), player)
            if other != player:
                raise UsageError(f"players {other!r} and {player!r} share a parameter: a shared trunk must be a player of its own")
    named: dict[str, Phase] = {}
    for phase in phases(recipe):
        if named.setdefault(phase.name, phase) is not phase:
            raise UsageError(f"two phases are named {phase.name!r}: different phases of a recipe need different names")
        for player in phase.updates:
            if player not in nets:
                raise UsageError(f"phase {phase.name!r} updates {player!r}, which is no player of {', '.join(nets)}")
            if player not in recipe.optims and player not in phase.optims:
                raise UsageError(f"phase {phase.name!r} updates {player!r}, which has no optimiser")


def _check_columns(data: Data, source: Source) -> None:
    if not isinstance(data, Mapping):
        return
    for key, stream in data.items():
        if not isinstance(stream, Field):
            continue
        part = source.parts.get(stream.group, source)
        if stream.name not in part.fields:
            what = "labels" if stream.name == "y" else f"a column {stream.name!r}"
            raise DataError(f"{part.name}: the recipe needs {what} for {key!r}, the data set has {', '.join(part.fields)}")
