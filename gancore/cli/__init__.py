"""The command line, `gancore` or `python -m gancore`."""

import sys

_NEEDS = 'the command line needs it: pip install "gancore[train]"'


def main() -> None:
    """Run the command line on sys.argv and exit with its code."""
    try:
        from gancore.cli.app import app
    except ModuleNotFoundError as error:
        print(f"gancore: {error.name} is not installed, and {_NEEDS}", file=sys.stderr)
        sys.exit(1)
    app(prog_name="gancore")
