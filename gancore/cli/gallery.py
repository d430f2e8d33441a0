"""`gancore gallery`: every recipe on small data sets, on one page that ranks them."""

from pathlib import Path
from typing import Any

import click

from gancore.cli import screen


@click.command()
@click.argument("names", nargs=-1)
@click.option("--data", default="", help="Data sets with commas between, of ring8, grid25 and digits8.  [ring8,digits8]")
@click.option("--steps", type=click.IntRange(10), help="Of every run, instead of each data set's budget.")
@click.option("--out", type=click.Path(path_type=Path), default="gallery", show_default=True, help="Folder of results.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes side by side, one thread each.")
@click.option("--page", is_flag=True, help="Run nothing: draw OUT.html from the results in OUT.")
def gallery(names: tuple[str, ...], data: str, steps: int | None, out: Path, jobs: int, page: bool) -> int:
    """Train recipes on small data sets for equally many steps, and rank them on one page, demonstrations below.

    Runs NAME ...; without a name, every recipe and demonstration whose result is missing or older than its code.
    """
    from gancore import recipes
    from gancore.core import UsageError
    from gancore.gallery import protocol, store
    from gancore.gallery.page import write
    from gancore.outputs import require

    require()
    sets = tuple(data.split(",")) if data else protocol.DATA
    if wrong := [name for name in sets if name not in protocol.OPTIONS]:
        raise UsageError(f"data: the gallery shows {', '.join(protocol.OPTIONS)}, got {wrong[0]!r}")
    if page and names:
        raise UsageError("--page draws all results there are: leave the names out")
    known, before = [*recipes.names("recipe"), *recipes.names("demo")], store.read(out)
    chosen = [recipes.get(name).id for name in names]
    if wrong := [name for name in chosen if name not in known]:
        raise UsageError(f"the gallery shows gancore's own recipes and demonstrations, {wrong[0]!r} is none")
    if not names and not page:
        chosen = [name for name in known if store.stale(name, before.get(name), sets, steps or 0)]
    if chosen:
        store.refresh(chosen, out, sets, steps or 0, jobs, _tell)
    found = {name: result for name, result in store.read(out).items() if name in known}
    target = out.with_name(out.name + ".html")
    write(found, target)
    click.echo(f"{len(chosen)} run, {len(found)} of {len(known)} shown in {target}")
    return int(any("failed" in part for name in chosen for part in (found[name], *found[name]["runs"].values())))


def _tell(result: dict[str, Any]) -> None:
    if "figures" in result:
        told = ", ".join(f"{k} {screen.number(v)}" for k, v in result["figures"].items())
        click.echo(f"{result['recipe']}: {result.get('failed', told)}")
    for data, run in result["runs"].items():
        ended = next((f"{word}: {run[word]}" for word in ("refused", "diverged", "failed") if word in run), None)
        told = ", ".join(f"{k} {screen.number(v)}" for k, v in run.get("scores", {}).items())
        click.echo(f"{result['recipe']} on {data}: " + (ended or f"{told}; {screen.number(run['ms'])} ms a step"))


COMMANDS = (gallery,)
