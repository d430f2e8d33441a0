"""Line charts as coordinates for inline SVG: what the page's template draws, without a plotting library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gancore.figures import Curves, spans_decades

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 26
_POINTS = 400

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A grid line: where it lies and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """A curve: its SVG path, dots where a point stands alone, and (x, y, step, value) of its points for the readout."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    points: list[tuple[float, float, float, str]]
    last: str
    gaps: int


@dataclass(frozen=True)
class Chart:
    """A panel: title, curves and axes."""

    title: str
    series: list[Series]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    log: bool


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    length: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, v = (math.log10(t) if self.log else t for t in (self.low, self.high, value))
        return round(self.start + self.length * (v - low) / (high - low), 2)


def chart(title: str, curves: Curves, steps: tuple[float, float], log: bool | None = None) -> Chart:
    """A chart of curves name -> [(step, value)] over the common range of steps; NaN and inf are gaps, and counted.

    log: whether the values' axis is logarithmic; by default where they span decades.
    """
    log = spans_decades(curves) if log is None else log
    values = [v for points in curves.values() for _, v in points if math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if not log:
        margin = 0.05 * (high - low) or max(abs(high) * 0.1, 0.5)
        low, high = low - margin, high + margin
    x = _Axis(steps[0], steps[1] if steps[1] > steps[0] else steps[0] + 1, _LEFT, WIDTH - _LEFT - _RIGHT)
    y = _Axis(low, high, HEIGHT - _BOTTOM, -(HEIGHT - _BOTTOM - _TOP), log)
    x_ticks = [Tick(x.at(v), text) for v, text in ticks(x.low, x.high, 5)]
    y_ticks = [Tick(y.at(v), text) for v, text in (decades(low, high) if log else ticks(low, high, 6))]
    return Chart(title, [_series(name, points, x, y) for name, points in curves.items()], x_ticks, y_ticks, log)


def ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Round values in [low, high] and their texts, some `about` of them, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    numbers = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step)))
    if digits > 4 or max(abs(low), abs(high)) >= 1e6:
        return [(v, f"{v:.3g}") for v in numbers]
    return [(v, f"{v:,.{digits}f}") for v in numbers]


def decades(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten in [low, high], at most six."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = math.ceil((last - first + 1) / 6)
    return [(10.0**i, f"{10.0**i:g}") for i in range(first, last + 1, every)]


def number(value: float) -> str:
    """A figure for reading: four significant digits, thousands set apart."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e-4 <= abs(value) < 1e6:
        return f"{value:,.{max(4, math.floor(math.log10(abs(value))) + 1)}g}"
    return f"{value:.3e}"


def thin(points: Points, most: int = _POINTS) -> Points:
    """At most about `most` points: of each stretch the lowest and the highest, so that no spike is lost. Gaps stay gaps."""
    if len(points) <= most:
        return points
    size = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        finite = [p for p in stretch if math.isfinite(p[1])]
        ends = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else set()
        gap = [p for p in stretch if not math.isfinite(p[1])][:1]
        kept += sorted([*ends, *gap])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _series(name: str, points: Points, x: _Axis, y: _Axis) -> Series:
    path: list[str] = []
    dots: list[tuple[float, float]] = []
    placed: list[tuple[float, float, float, str]] = []
    run: list[tuple[float, float]] = []
    for step, value in [*thin(points), (math.nan, math.nan)]:
        if math.isfinite(value):
            run.append((x.at(step), y.at(value)))
            placed.append((*run[-1], step, number(value)))
            continue
        if len(run) > 1:
            path.append("M" + "L".join(f"{a:g},{b:g}" for a, b in run))
        dots += run if len(run) == 1 else []
        run = []
    gaps = sum(not math.isfinite(v) for _, v in points)
    return Series(name, "".join(path), dots, placed, number(points[-1][1]), gaps)
