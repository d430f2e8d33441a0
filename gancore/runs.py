"""Runs: `train` makes one, `load` opens one from its folder. The command line does nothing that these do not."""

import contextlib
import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancore import capacity, checkpoint, data, environment, evaluation
from gancore.arguments import split
from gancore.core import DataError, DataSpec, Entry, Nets, Options, UsageError
from gancore.core.registry import ENTRIES
from gancore.recipes import get
from gancore.trainer import Trainer

Listener = Callable[["Run", dict[str, Any]], None]
_ESSENTIAL = {"recipe", "options", "parameters", "data"}


class Run:
    """A recipe on a data set: `nets` and `metrics`, `sample`, `evaluate`, and `train`, which goes on to the last step.

    Folder of a run: run.json (what it is and the command that repeats it), log.jsonl (one record a line), checkpoint.pt,
    samples/, plots/.
    """

    def __init__(self, entry: Entry, options: Options, parameters: Mapping[str, Any]) -> None:
        self.entry, self.parameters = entry, dict(parameters)
        self.recipe = entry.function(**parameters)
        self.device = environment.pick_device(options.device)
        self.data = data.load(options.data, size=options.size or None)
        placed = self.data.to(self.device)
        build = lambda options: Trainer(self.recipe, placed, options, specify(self.data, options), self.device)
        self.options = options = capacity.resolved(options, self.device, build)
        self.trainer = build(options)
        self.out = Path(options.out) if options.out else None
        self.metrics: list[dict[str, Any]] = []
        self.started = time.time()
        self._stop = False

    @property
    def nets(self) -> Nets:
        """All players, averages in place of the trained ones where they are kept."""
        return self.trainer.average.nets

    @property
    def classes(self) -> int:
        """Number of classes that the generator is conditioned on, 0 for none."""
        return getattr(self.nets["G"], "classes", 0) if "G" in self.nets else 0

    def sample(self, n: int, seed: int = 0, **conditions: Any) -> Tensor | dict[str, Tensor]:
        """n samples from the averaged generator: images (n, C, H, W) in [-1, 1], other data in its own shape.

        conditions: what the recipe's sampler takes: `y` for labels, one for all or (n,), by default every class in equal shares.
        Raises UsageError where the recipe does not sample, or has no such classes.
        """
        if self.recipe.sample is None:
            raise UsageError(f"{self.entry.id} draws no samples")
        if "y" in conditions:
            conditions["y"] = self._labels(n, conditions["y"])
        with inference(self.nets), self._seeded(seed):
            return self.recipe.sample(self.nets, n, self.trainer.state, **conditions)

    def _labels(self, n: int, y: Any) -> Tensor:
        count = self.classes
        if not count:
            raise UsageError(f"{self.entry.id} is not conditional: its samples take no label y")
        labels = torch.as_tensor(y, device=self.device).expand(n)
        if labels.is_floating_point() or not bool(((labels >= 0) & (labels < count)).all()):
            raise UsageError(f"y must be a class from 0 to {count - 1}, got {y}")
        return labels

    def evaluate(self, count: int = 2000, seed: int = 0, metrics: Sequence[str] = ()) -> dict[str, float]:
        """Scores of `count` samples: the metrics of these ids; without any, the recipe's own figures, or those of its data set.

        Raises UsageError where a metric does not suit the data (see `gancore.evaluation`).
        """
        with self._seeded(seed):
            if metrics:
                return evaluation.measure(metrics, evaluation.tensor_of(self.sample(count, seed)), self.data, seed)
            if self.recipe.evaluate is not None:
                with inference(self.nets):
                    return self.recipe.evaluate(self.nets, self.data, self.trainer.state)
            if self.recipe.sample is None:
                return {}
            return evaluation.scores(lambda n: evaluation.tensor_of(self.sample(n, seed)), self.data, count)

    @contextlib.contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """A random state of its own; that of the caller, or of the training under way, comes back."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def train(self, *listeners: Listener) -> "Run":
        """Go on to the last step. Each log record goes to log.jsonl, to `metrics` and to the listeners.

        Ctrl-C ends the step that is under way, saves a checkpoint and raises KeyboardInterrupt. Raises Diverged, which saves
        nothing, and OutputError. Called again after Ctrl-C, it goes on.
        """
        trainer, options = self.trainer, self.options
        self._stop = False
        trainer.start_clock()
        with self._interruptible(), trainer.random():
            while trainer.steps_done < options.steps and not self._stop:
                trainer.step()
                saving = self.saves(trainer.steps_done)
                if saving or trainer.steps_done % options.log_every == 0:
                    self._record(saving, listeners)
            if self._stop:
                self.save()
                raise KeyboardInterrupt(f"stopped at step {trainer.steps_done}")
        trainer.release()
        return self

    def _record(self, saving: bool, listeners: tuple[Listener, ...]) -> None:
        record = {**self.trainer.tick(), "seconds": round(time.time() - self.started, 3)}
        if saving:
            record |= {f"metric/{name}": value for name, value in self.evaluate().items()}
        self.metrics.append(record)
        if self.out is not None:
            with _writing(self.out / "log.jsonl", "a") as file:
                file.write(json.dumps(record) + "\n")
        if saving:
            self.save()
        for listener in listeners:
            listener(self, record)
        self.trainer.start_clock()

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` steps, and with it samples and metrics."""
        return step % self.options.saving == 0 or step == self.options.steps

    def save(self) -> None:
        """Write the checkpoint, if the run has a folder. Raises OutputError or Diverged; the previous checkpoint then stays."""
        if self.out is not None:
            self.trainer.check_weights()
            checkpoint.save(self.out / "checkpoint.pt", self.trainer.state_dict())

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            signal.signal(signal.SIGINT, previous)  # a second Ctrl-C does not wait
            self._stop = True

        try:
            previous = signal.signal(signal.SIGINT, stop)
        except ValueError:  # signals belong to the main thread
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def describe(self) -> dict[str, Any]:
        """What run.json holds."""
        return {
            "recipe": self.entry.id,
            "source": self.entry.source,
            "title": self.entry.title,
            "options": asdict(replace(self.options, resume=False)),
            "parameters": self.parameters,
            "seed": self.options.seed,
            "data": {"name": self.data.name, "size": len(self.data), "shape": self.data.shape, "digest": self.data.digest()},
            "players": {name: sum(p.numel() for p in net.parameters()) for name, net in self.trainer.nets.items()},
            "phases": phase_table(self),
            "versions": environment.versions(),
            "commit": environment.commit(),
            "device": environment.describe(self.device),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "command": command(self),
        }


def train(name: str, *listeners: Listener, **arguments: Any) -> Run:
    """Train a recipe, as `gancore train` does, and return the run.

    name: id of a recipe, or path of a Python file that registers one. arguments: options of the loop (`gancore.core.Options`) and
    parameters of the recipe. With `out` the folder also gets sample grids, plots, metrics.json and report.html; without, nothing
    is written.
    Raises UsageError (names, types, combinations), DataError, Diverged, OutputError.
    """
    if not arguments.get("out"):
        return open_run(name, **arguments).train(*listeners)
    from gancore import outputs  # pictures and pages: what writes nothing does not load them

    outputs.require()
    run = open_run(name, **arguments).train(outputs.write_pictures, *listeners)
    outputs.finish(run)
    return run


def open_run(name: str, **arguments: Any) -> Run:
    """The run that `train` would train, before its first step or where it left off."""
    entry = get(name, "recipe")
    options, parameters = split(entry, arguments)
    if options.resume:
        return _resume(entry, arguments)
    run = Run(entry, options, parameters)
    if run.out is not None:
        _create(run)
    return run


def load(out: str | Path, device: str | None = None) -> Run:
    """Open the run in a folder at its last checkpoint, to sample, evaluate or look at, on its own device or on `device`.

    Raises DataError if there is none, UsageError where the device does not exist.
    """
    folder = Path(out)
    described = read_description(folder)
    entry = _registered(described)
    parameters = {k: _unlisted(v) for k, v in described["parameters"].items()}
    options = {**described["options"], "out": str(folder), **({"device": device} if device else {})}
    run = Run(entry, *split(entry, {**options, **parameters}))
    saved = checkpoint.load(folder / "checkpoint.pt", run.device)
    try:
        run.trainer.load_state_dict(saved)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{folder}/checkpoint.pt does not fit {entry.id} as it is now: {reason}") from error
    run.metrics = [r for r in read_log(folder) if r["step"] <= run.trainer.steps_done]
    return run


def _registered(described: Mapping[str, Any]) -> Entry:
    source = described.get("source", "")
    return get(source if source and described["recipe"] not in ENTRIES else described["recipe"], "recipe")


def _unlisted(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples


def _resume(entry: Entry, arguments: Mapping[str, Any]) -> Run:
    if not arguments.get("out"):
        raise UsageError("resume needs out, the folder of the run that goes on")
    folder = Path(arguments["out"])
    described = read_description(folder)
    saved = {**described["options"], **described["parameters"]}
    given = {k: v for k, v in arguments.items() if k not in ("resume", "out")}
    for key, value in ({"recipe": entry.id} | given).items():
        before = described["recipe"] if key == "recipe" else _unlisted(saved.get(key))
        if before != value:
            raise UsageError(f"{folder} was started with {key}={before!r}, not {value!r}: leave {key} out, or start a new run")
    if not (folder / "checkpoint.pt").is_file():
        raise UsageError(f"{folder} has no checkpoint yet: delete it and start again")
    run = load(folder)
    if run.data.digest() != described["data"]["digest"]:
        raise DataError(f"{run.data.name} has changed since {folder} was started: its digest differs from that in run.json")
    lines = "".join(json.dumps(record) + "\n" for record in run.metrics)
    checkpoint.write_atomic(folder / "log.jsonl", lambda file: file.write(lines.encode()))
    run.started = time.time() - (run.metrics[-1]["seconds"] if run.metrics else 0)
    return run


def _create(run: Run) -> None:
    assert run.out is not None
    if (run.out / "run.json").exists():
        raise UsageError(f"{run.out} holds a run: choose another out, or resume it")
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checkpoint.OutputError(f"cannot write {run.out}: {error.strerror}") from error
    text = json.dumps(run.describe(), indent=2) + "\n"
    checkpoint.write_atomic(run.out / "run.json", lambda file: file.write(text.encode()))


def read_description(folder: Path) -> dict[str, Any]:
    """run.json of a run's folder. Raises DataError where it is missing or damaged."""
    path = folder / "run.json"
    try:
        described = json.loads(path.read_text())
        if not isinstance(described, dict) or not described.keys() >= _ESSENTIAL:
            raise ValueError(f"it wants {', '.join(sorted(_ESSENTIAL))}")
        return described
    except OSError as error:
        raise DataError(f"{folder} holds no run: cannot read {path.name}, {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Records of log.jsonl; a last line that a crash cut short is left out."""
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise DataError(f"{path} is damaged in line {number}: {error}") from error
    return records


def specify(dataset: data.Dataset, options: Options) -> DataSpec:
    """What networks are told of a data set: its shape, labels, and the body that `net` means for it."""
    image = dataset.is_image
    net = options.net if options.net != "auto" else "dcgan" if image and dataset.shape[-1] > 8 else "toy"
    return DataSpec(dataset.shape, dataset.classes, net, options.width)


def phase_table(run: Run) -> list[dict[str, Any]]:
    """One row a phase: its stage, cadence and routes, as "player <- weight term + ..."."""
    rows = []
    for stage in run.recipe.stages:
        for phase in stage.phases:
            routes = [
                f"{player} <- " + " + ".join(f"{'w(state)' if callable(w) else f'{w:g}'} {term}" for term, w in route.items())
                for player, route in phase.updates.items()
            ]
            rows.append(
                {"stage": stage.name, "phase": phase.name, "repeats": phase.repeats, "every": phase.every, "routes": routes}
            )
    return rows


def command(run: Run) -> str:
    """The command that repeats the run."""
    defaults = Options()
    chosen = {k: v for k, v in asdict(run.options).items() if v != getattr(defaults, k) and k != "resume"}
    usual = {name: p.default for name, p in run.entry.parameters().items()}
    chosen |= {k: v for k, v in run.parameters.items() if v != usual[k]}
    words = {k: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in chosen.items()}
    name = run.entry.source or run.entry.id
    return shlex.join(["gancore", "train", name, *(f"--{k.replace('_', '-')}={v}" for k, v in words.items())])


@contextlib.contextmanager
def inference(nets: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode comes back."""
    modes = {module: module.training for module in nets.modules()}
    nets.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def _writing(path: Path, mode: str) -> Iterator[Any]:
    try:
        with path.open(mode) as file:
            yield file
    except OSError as error:
        raise checkpoint.OutputError(f"cannot write {path}: {error.strerror}") from error
