"""`gancore train`, its help and its dry run."""

import inspect
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore.cli import screen
from gancore.cli.words import Raw, help_lines, loop_options, read

if TYPE_CHECKING:
    from gancore.core import Entry
    from gancore.runs import Run

USAGE = "gancore train RECIPE [--option VALUE | --option=VALUE ...] [--dry-run] [--resume]"


@click.command(cls=Raw)
def train(words: tuple[str, ...]) -> None:
    """Train a recipe, by id or from a Python file."""
    from gancore.arguments import split
    from gancore.core import UsageError
    from gancore.recipes import get

    asks_help = bool({"-h", "--help"}.intersection(words))
    words = tuple(word for word in words if word not in ("-h", "--help"))
    name = words[0] if words and not words[0].startswith("-") else ""
    if asks_help or not words:
        _help(get(name, "recipe") if name else None)
        return
    if not name:
        raise UsageError(f"the recipe comes first: {USAGE}")
    entry = get(name, "recipe")
    kinds = {k: p.annotation for k, p in entry.parameters().items()}
    extra, values = read(words[1:], {**loop_options(), **kinds, "dry_run": bool})
    if extra:
        raise UsageError(f"unexpected {extra[0]!r}: options are --name value or --name=value")
    dry = values.pop("dry_run", False)
    split(entry, values)
    if dry:
        _dry_run(name, values)
    else:
        _train(name, entry, values)


def _train(name: str, entry: "Entry", values: dict[str, Any]) -> None:
    from gancore.core import Diverged
    from gancore.outputs import finish, require, write_pictures
    from gancore.progress import progress
    from gancore.runs import open_run

    require()
    values.setdefault("out", "" if values.get("resume") else str(free_folder(entry.id)))
    run = open_run(name, **values)
    what = f"{len(run.data):,} samples of shape {' x '.join(map(str, run.data.shape))}"
    click.echo(f"{entry.id} on {run.data.name} ({what}), {run.device}, into {run.out}")
    try:
        with progress(run) as listener:
            run.train(write_pictures, listener)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted at step {run.trainer.steps_done}; the checkpoint is {run.out}/checkpoint.pt. To go on: "
            f"gancore train {name} --out={run.out} --resume"
        ) from None
    except Diverged as error:
        raise Diverged(f"{error}; {_left_behind(run)}") from error
    for label, path in finish(run).items():
        click.echo(f"{label:8} {path}")


def _left_behind(run: "Run") -> str:
    saved = run.out is not None and (run.out / "checkpoint.pt").is_file()
    return f"the last good checkpoint is {run.out}/checkpoint.pt" if saved else "there is no earlier checkpoint"


def free_folder(recipe: str) -> Path:
    """runs/<recipe>, or the first of runs/<recipe>-2, -3 ... that does not exist."""
    first = Path("runs") / recipe
    return next(path for i in count(1) if not (path := first if i == 1 else first.with_name(f"{recipe}-{i}")).exists())


def _help(entry: "Entry | None") -> None:
    from gancore.arguments import explain
    from gancore.core import Options

    click.echo(f"Usage: {USAGE}\n")
    click.echo("  Train a recipe, by id (see gancore list) or from a Python file that registers one.\n")
    if entry is not None:
        parameters = entry.parameters()
        kinds = {k: p.annotation for k, p in parameters.items()}
        docs = explain(parameters, inspect.getdoc(entry.function))
        _section(f"Parameters of {entry.id}", kinds, {k: p.default for k, p in parameters.items()}, docs)
    kinds = loop_options()
    docs = explain(kinds, inspect.getdoc(Options))
    defaults: Mapping[str, Any] = {k: getattr(Options(), k) for k in kinds}
    _section("Options of the loop", kinds, defaults, {**docs, "out": f"{docs['out']} By default runs/<recipe>."})
    _section("Besides", {"dry_run": bool}, {"dry_run": False}, {"dry_run": "show what would run, take one step, write nothing."})
    if entry is None:
        click.echo("gancore train RECIPE --help also lists the recipe's parameters.")


def _section(title: str, kinds: Mapping[str, Any], defaults: Mapping[str, Any], docs: Mapping[str, str]) -> None:
    formatter = click.HelpFormatter(width=100)
    with formatter.section(title):
        formatter.write_dl(help_lines(kinds, defaults, docs), col_max=34)
    click.echo(formatter.getvalue())


def _dry_run(name: str, values: dict[str, Any]) -> None:
    from dataclasses import asdict

    from gancore.core import UsageError
    from gancore.memory import estimate
    from gancore.runs import open_run, phase_table

    if values.get("resume"):
        raise UsageError("a dry run starts afresh: leave --resume out")
    # The hooks that measure memory see nothing inside compiled code.
    run = open_run(name, **{**values, "out": "", "compile": "off"})
    told = {**asdict(run.options), "out": values.get("out", ""), "compile": values.get("compile", "auto")} | run.parameters
    screen.table(("option", "value"), [(k, str(v)) for k, v in told.items()])
    players = {name: sum(p.numel() for p in net.parameters()) for name, net in run.trainer.nets.items()}
    rows = [(p, screen.number(n)) for p, n in players.items()]
    screen.table(("player", "parameters"), [*rows, ("total", screen.number(sum(players.values())))])
    phases = [(r["stage"], r["phase"], f"{r['repeats']}x", str(r["every"]), "; ".join(r["routes"])) for r in phase_table(run)]
    screen.table(("stage", "phase", "updates", "every", "routes"), phases)
    parts = estimate(run.trainer)
    screen.table(("memory", "bytes"), [(k, screen.size(v)) for k, v in parts.items()])
    record = run.trainer.tick()
    losses = "  ".join(f"{k} {v:.4g}" for k, v in record.items() if "/" in k)
    click.echo(f"one step on {run.device}: {losses}\nnothing was written")


COMMANDS = (train,)
