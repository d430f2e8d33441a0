"""`gancore sample`, `evaluate`, `report`, `export` and `demo`: what a trained run is good for."""

from pathlib import Path
from typing import Any

import click

from gancore.cli import screen
from gancore.cli.words import Raw, read

_RUN = click.argument("run", type=click.Path(path_type=Path))


@click.command()
@_RUN
@click.option("-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Number of samples.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.png, or FILE.npy for the values.")
@click.option("--y", "label", type=int, default=None, help="One class only; by default every class in equal shares.")
def sample(run: Path, count: int, seed: int, out: Path, label: int | None) -> None:
    """Draw samples from the averaged generator of RUN."""
    from gancore.checkpoint import write_atomic
    from gancore.core import UsageError
    from gancore.evaluation import tensor_of
    from gancore.figures import save_png
    from gancore.outputs import sample_picture
    from gancore.runs import load

    if out.suffix not in (".png", ".npy"):
        raise UsageError(f"samples are written as .png or .npy, not as {out.name!r}")
    opened = load(run)
    given = {} if label is None else {"y": label}
    if out.suffix == ".png":
        save_png(sample_picture(opened, count, seed, **given), out)
    else:
        import numpy

        values = tensor_of(opened.sample(count, seed, **given)).cpu().contiguous().numpy()
        write_atomic(out, lambda file: numpy.save(file, values))
    click.echo(f"{count} samples in {out}")


@click.command()
@_RUN
@click.argument("metrics", nargs=-1)
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="Number of samples.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object of name and value.")
def evaluate(run: Path, metrics: tuple[str, ...], count: int, seed: int, as_json: bool) -> None:
    """Score samples of RUN.

    METRICs are ids (see gancore list --kind metric); without any, the figures are the recipe's own or those of its data.
    """
    from gancore.evaluation import judge_accuracy
    from gancore.runs import load

    opened = load(run)
    found = {**opened.evaluate(count, seed, metrics), **judge_accuracy(opened.data)}
    if as_json:
        screen.dump(found)
        return
    screen.table(("metric", "value"), [(name, f"{value:.6g}") for name, value in found.items()])


@click.command()
@_RUN
def report(run: Path) -> None:
    """Write the HTML report of RUN again."""
    from gancore.report import write_report

    click.echo(write_report(run))


@click.command()
@_RUN
@click.option("--format", "kind", type=click.Choice(("safetensors", "onnx")), required=True, help="Weights, or the sampler.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
def export(run: Path, kind: str, out: Path) -> None:
    """Export RUN for other programs.

    safetensors: weights of the averaged players, described by a JSON file beside it. onnx: the sampler, from noise "z" (and labels
    "y") to "samples", its batch free.
    """
    from gancore import export as exporter
    from gancore.runs import load

    opened = load(run)
    if kind == "safetensors":
        for path in exporter.safetensors(opened, out):
            click.echo(f"wrote {path}")
    else:
        click.echo(f"wrote {out}; {exporter.onnx(opened, out)}")


@click.command(cls=Raw)
def demo(words: tuple[str, ...]) -> None:
    """Run a demonstration."""
    from gancore.arguments import bind
    from gancore.core import UsageError
    from gancore.recipes import get, names

    if not words or {"-h", "--help"}.intersection(words):
        known = ", ".join(names("demo")) or "none yet"
        click.echo(f"Usage: gancore demo NAME [--parameter VALUE ...] [--out FIGURE.png]\n\nDemonstrations: {known}")
        return
    entry = get(words[0], "demo")
    extra, values = read(words[1:], {**{k: p.annotation for k, p in entry.parameters().items()}, "out": str})
    if extra:
        raise UsageError(f"unexpected {extra[0]!r}: parameters are --name value or --name=value")
    out = Path(values.pop("out", f"{entry.id}.png"))
    result = entry.function(**bind(entry, values))
    figures, figure = result if isinstance(result, tuple) else (result, None)
    screen.table(("figure", "value"), [(name, f"{value:.6g}") for name, value in figures.items()])
    if figure is not None:
        _save(figure, out)
        click.echo(f"drawn in {out}")


def _save(figure: Any, out: Path) -> None:
    from gancore.checkpoint import write_atomic

    write = figure.savefig if hasattr(figure, "savefig") else figure.save
    write_atomic(out, lambda file: write(file, format="PNG"))


COMMANDS = (sample, evaluate, report, export, demo)
