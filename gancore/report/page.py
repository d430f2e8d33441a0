"""Pages that hold all they show: the template engine of every page, and the look that they share (page.css)."""

from collections.abc import Callable, Mapping
from typing import Any

from gancore.core import UsageError


def fill(package: str, template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template of a package filled in; it may include report/page.css and import chart.j2. Raises UsageError without jinja2."""
    try:
        from jinja2 import ChoiceLoader, Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UsageError('the report needs jinja2, which is missing; pip install "gancore[train]"') from None
    from importlib.resources import files

    read = lambda place: lambda name: files(place).joinpath(name).read_text(encoding="utf-8")
    places = {template: read(package), "page.css": read("gancore.report"), "chart.j2": read("gancore.report")}
    loader = ChoiceLoader([FunctionLoader(lambda name: places[name](name) if name in places else None)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(filters)
    return str(environment.get_template(template).render(**values))
