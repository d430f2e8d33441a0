"""What a run leaves in its folder for people: sample grids, plots, metrics and the report.

`write_pictures` is a listener of `Run.train`; `finish` writes what needs the whole log. They serve `gancore train` and
`gancore.train` alike.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gancore import checkpoint, evaluation, figures
from gancore.core import UsageError

if TYPE_CHECKING:
    from gancore.runs import Run

_ROWS, _COLUMNS, _POINTS = 8, 10, 2000
_NEEDED = {"PIL": "pillow", "matplotlib": "matplotlib", "jinja2": "jinja2"}


def require() -> None:
    """Raise UsageError before a run starts where it could not draw its pictures or write its report."""
    absent = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if absent:
        raise UsageError(f'pictures and reports need {", ".join(absent)}, not installed here; pip install "gancore[train]"')


def write_pictures(run: "Run", record: dict[str, Any]) -> None:
    """At each saving tick: samples/step-<step>.png, plots/losses.png and plots/metrics.png. Raises OutputError.

    A run without a folder gets none.
    """
    if run.out is None or not run.saves(record["step"]):
        return
    if run.recipe.sample is not None:
        path = _folder(run.out / "samples") / f"step-{record['step']:08}.png"
        figures.save_png(sample_picture(run), path)
    plots = _folder(run.out / "plots")
    measured = [{k: v for k, v in r.items() if k == "step" or k.startswith("metric/")} for r in run.metrics]
    others = [{k: v for k, v in r.items() if not k.startswith("metric/")} for r in run.metrics]
    for name, records in (("losses", others), ("metrics", measured)):
        if figures.panels_of(records):
            figures.save_png(figures.loss_plot(records), plots / f"{name}.png")


def sample_picture(run: "Run", count: int = 0, seed: int = 0, **conditions: Any) -> Any:
    """A PIL picture of samples: images in a grid, one class a column where the recipe is conditional, points over the data.

    count: 0 for as many as suit the kind of data.
    """
    columns = run.classes or _COLUMNS
    flat = len(run.data.shape) == 1
    samples = evaluation.tensor_of(run.sample(count or (_POINTS if flat else _ROWS * columns), seed, **conditions))
    labels = torch.arange(len(samples)) % columns if run.classes and not conditions else None
    return figures.sample_picture(samples, run.data.all()["x"], columns=columns, labels=labels)


def finish(run: "Run") -> dict[str, Path]:
    """Write metrics.json and the report; where the picture, the metrics and the report lie, by name. Raises OutputError."""
    if run.out is None:
        raise UsageError("a run without a folder leaves nothing behind: give it out")
    from gancore.report import write_report

    metrics = run.out / "metrics.json"
    text = json.dumps({**last_metrics(run), **evaluation.judge_accuracy(run.data)}, indent=2) + "\n"
    checkpoint.write_atomic(metrics, lambda file: file.write(text.encode()))
    found = {"metrics": metrics, "report": Path(write_report(run.out))}
    pictures = sorted((run.out / "samples").glob("step-*.png"))
    return {"samples": pictures[-1], **found} if pictures else found


def last_metrics(run: "Run") -> dict[str, float]:
    """The metrics of the last record that has any, by name."""
    records = [{k.removeprefix("metric/"): v for k, v in r.items() if k.startswith("metric/")} for r in run.metrics]
    return next((record for record in reversed(records) if record), {})


def _folder(path: Path) -> Path:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise checkpoint.OutputError(f"cannot write {path}: {error.strerror}") from error
    return path
