"""`gancore new`: a commented recipe to start from, and its passing test."""

import keyword
import re
from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("."), show_default=True, help="Where the files go.")
def new(name: str, folder: Path) -> None:
    """Write a recipe to start from, NAME.py, and its test."""
    for path in write(name, folder):
        click.echo(f"wrote {path}")
    recipe = folder / f"{_identifier(name)}.py"
    click.echo(f"next: pytest {recipe.with_name('test_' + recipe.name)}; gancore train {recipe} --data ring8")


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """Write both files into an existing folder; their paths. Raises UsageError where the name cannot be one or is taken."""
    from gancore import checkpoint
    from gancore.cli.template import RECIPE, TEST
    from gancore.core import UsageError
    from gancore.recipes import names

    function = _identifier(name)
    identity = function.replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", function) or keyword.iskeyword(function):
        raise UsageError(f"{name!r} cannot name a recipe: wants lower-case words and digits joined by dashes, such as my-gan")
    if identity in names():
        raise UsageError(f"{identity!r} is the name of a recipe that gancore has: choose another")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    texts = {folder / f"{function}.py": RECIPE, folder / f"test_{function}.py": TEST}
    for path in texts:
        if path.exists():
            raise UsageError(f"{path} exists and is left as it is: choose another name or folder")
    for path, text in texts.items():
        filled = text.replace("NAME", function).replace("IDENTITY", identity).encode()
        checkpoint.write_atomic(path, lambda file, filled=filled: file.write(filled))  # type: ignore[misc]
    recipe, test = texts
    return recipe, test


def _identifier(name: str) -> str:
    return name.replace("-", "_")


COMMANDS = (new,)
