"""`gancore bench`: time gancore against what it replaces."""

from pathlib import Path

import click

from gancore.cli import screen


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small shapes, a minute or two; writes nothing unless --out is given.")
@click.option("--table", is_flag=True, help="Measure nothing: table and plot from the result file.")
@click.option("--row", "rows", multiple=True, help="Only this row of the benchmark; may be repeated. The file's others are kept.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The result file, instead of the benchmark's own.")
@click.option("--compare", type=click.Path(path_type=Path, dir_okay=False), help="An older result: say what got slower.")
@click.option("--all", "every", is_flag=True, help="Every class of shapes of each operator, not a few of them: hours on a CPU.")
@click.option("--device", default="auto", show_default=True, help="Where to measure.")
def bench(
    names: tuple[str, ...], quick: bool, table: bool, rows: tuple[str, ...], out: Path | None, compare: Path | None, every: bool,
    device: str,
) -> None:  # fmt: skip
    """Run the benchmarks NAME ...; without a name, list them."""
    import gancore
    from gancore.benchmarks import suite

    # An installed package and a checkout can both be at hand: figures must not be taken for the other's.
    click.echo(f"gancore {gancore.__version__} at {Path(gancore.__file__).resolve().parent}\n")
    if not names:
        screen.table(("benchmark", "what it measures"), list(suite.BENCHMARKS.items()))
        return
    asked = suite.Asked(quick=quick, table=table, rows=rows, out=out, compare=compare, every=every, device=device)
    suite.require(names, asked)
    for name in names:
        headings, lines = suite.run(name, asked, click.echo)
        screen.table(headings, lines, name)


COMMANDS = (bench,)
