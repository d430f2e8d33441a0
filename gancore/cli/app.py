"""The group of all commands, and the one place that turns errors into a line on stderr and an exit code.

Modules of commands import torch and the rest of gancore inside their functions: `gancore --help` needs neither.
"""

import difflib
import os
import sys
from typing import Any, NoReturn

import click

from gancore import __version__
from gancore.cli import bench, catalogue, doctor, gallery, new, profile, results, train

_EXTRAS = {
    "rich": "train", "PIL": "train", "matplotlib": "train", "sklearn": "train", "jinja2": "train", "safetensors": "train",
    "onnx": "onnx", "onnxscript": "onnx",
}  # fmt: skip


class App(click.Group):
    """Commands whose errors are one line, "gancore: ...", and a documented exit code."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command, or the nearest names of one that does not exist."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(self.commands)}"
            raise click.UsageError(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C is reported here, before click makes an error of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _fail(str(error) or "interrupted", 130)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse, run and exit."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except click.Abort:
            _fail("interrupted", 130)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in _EXTRAS:
                raise
            _fail(f'{module} is not installed, and this command needs it: pip install "gancore[{_EXTRAS[module]}]"', 1)
        except OSError as error:
            _fail(_sentence(error), getattr(error, "exit_code", 1))
        except Exception as error:
            from gancore.core import GancoreError

            if not isinstance(error, GancoreError):
                raise
            _fail(str(error), error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{os.fspath(error.filename)}: {error.strerror}" if error.filename is not None else error.strerror


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"gancore: {message}", err=True)
    sys.exit(code)


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="gancore %(version)s")
def app() -> None:
    """Train, judge and export generative adversarial networks.

    \b
    A first run:
      gancore list
      gancore train projection-gan --data digits --size 16 --dry-run
      gancore train projection-gan --data digits --size 16
      gancore sample runs/projection-gan -n 64 --out samples.png

    \b
    Exit codes:
      0    done
      1    anything else, such as output that cannot be written
      2    usage: a name, an option or a combination that cannot work
      3    data that is missing, truncated or corrupt
      4    diverged: a loss became NaN or infinite
      130  interrupted; a training run has saved a checkpoint
    """


for _module in (catalogue, train, results, gallery, bench, profile, doctor, new):
    for _command in _module.COMMANDS:
        app.add_command(_command)
