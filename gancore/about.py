"""What a registered function says of itself: the text that tells its objective, and the paper that it comes from."""

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gancore.core import Entry


def paper(title: str) -> str:
    """Where it was published: the arXiv number, the DOI, or what follows the year."""
    number = re.search(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})|doi:\S+[^\s.,]", title)
    venue = re.search(r", [^,]+ (?:19|20)\d\d, ([A-Z].*?)(?:\. |\.?$)", title)
    return number.group() if number else venue.group(1) if venue else ""


def text(entry: "Entry") -> str:
    """The objective. Recipes and demonstrations tell it in their module; their own text explains parameters, which have a table."""
    module = inspect.getdoc(inspect.getmodule(entry.function)) or ""
    own = inspect.getdoc(entry.function) or ""
    return f"{module}\n\n{own}".strip() if entry.kind == "metric" else module
