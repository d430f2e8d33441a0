"""`python -m gancore` is the command `gancore`."""

from gancore.cli import main

main()
