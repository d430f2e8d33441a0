"""`gancore doctor`: what works here, and a remedy for what does not."""

import click

from gancore.cli import screen


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list of part, ok, found and remedy.")
def doctor(as_json: bool) -> None:
    """Report what works here, with a remedy for what does not."""
    from gancore.doctor import as_dicts

    found = as_dicts()
    if as_json:
        screen.dump(found)
        return
    screen.table(("part", "", "found"), [(f["part"], "ok" if f["ok"] else "absent", f["found"]) for f in found])
    missing = [(f["part"], f["remedy"]) for f in found if not f["ok"]]
    if missing:
        screen.table(("absent", "remedy"), missing)


COMMANDS = (doctor,)
