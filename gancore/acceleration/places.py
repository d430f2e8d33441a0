"""What analysis hands to running, and to the reader: runs and rows, by the names of their modules."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Run(NamedTuple):
    """Modules that one operator may run, while the module that owns the run is called; names are relative to that one.

    units: names of convolution, norm and activation, "" where there is none. around: modules called in between or around parts of
    the run, whose hooks would see values that are never computed. switches: numbers, flags and words (module, name, value) on
    which the forward may depend; where they have changed, so may have its path.
    """

    units: tuple[tuple[str, str, str], ...]
    around: tuple[str, ...]
    switches: tuple[tuple[str, str, Any], ...]

    @property
    def members(self) -> tuple[str, ...]:
        """The names in the order in which the modules are called."""
        return tuple(name for unit in self.units for name in unit if name)


@dataclass(frozen=True)
class Row:
    """One line of the report: the modules, the operator that runs them or "", and the reason why it is not, or is not more."""

    places: tuple[str, ...]
    operator: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{' + '.join(self.places) or '(the model)'}: {self.operator or 'unchanged'}{self.reason and f' ({self.reason})'}"


@dataclass(frozen=True)
class Report:
    """What became of each convolution of a model."""

    rows: tuple[Row, ...]

    @property
    def fused(self) -> tuple[Row, ...]:
        """The rows that an operator runs."""
        return tuple(row for row in self.rows if row.operator)

    @property
    def unchanged(self) -> tuple[Row, ...]:
        """The rows that run as before."""
        return tuple(row for row in self.rows if not row.operator)

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows)) or "no convolutions"
