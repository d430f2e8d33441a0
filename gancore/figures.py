"""Pictures of samples and of logs, as PIL images. Plotting libraries are loaded when a picture is drawn, not before."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gancore.checkpoint import write_atomic
from gancore.core import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Record = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]

KINDS = ("auto", "images", "scatter", "histogram", "lines", "voxels", "clips")

# Okabe and Ito's palette without its yellow, which is lost on white: told apart with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07a00", "#56b4e9", "#4d4d4d")
_STYLES = ("-", "--", ":")

_RANKS = {"metric": 1, "state": 2}

_TILE = 48
_GUTTER = 2
_PAPER = 255


def sample_picture(
    samples: Tensor, data: Tensor | None = None, *, columns: int = 10, kind: str = "auto", labels: Tensor | None = None
) -> "Image":
    """The picture that suits samples of this shape, whatever they are.

    samples: images (N, 1|3, H, W), voxels (N, 1, D, D, D), seen along each axis, or clips (N, 1|3, T, H, W), a row each, in
    [-1, 1]; points (N, 2), drawn over `data` (M, 2) and coloured by `labels` (N,); numbers (N,) or (N, 1), as a histogram;
    anything else (N, ...) as one panel of curves a sample.
    kind: one of "images", "scatter", "histogram", "lines", "voxels", "clips" where the shape does not say it.
    Raises ValueError where samples do not have that kind's shape, UsageError without matplotlib or pillow.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: wants one of {', '.join(KINDS)}, got {kind!r}")
    samples = samples.detach().float().cpu()
    if not len(samples):
        raise ValueError("samples: wants at least one, got none")
    kind = _kind(samples) if kind == "auto" else kind
    if kind == "images":
        return sample_grid(samples, columns)
    if kind == "voxels":
        return sample_grid(_silhouettes(samples), 3 * max(1, columns // 3))
    if kind == "clips":
        return _film(samples)
    if kind == "scatter":
        return scatter(samples, data, labels)
    if kind == "histogram":
        return histogram(samples, data)
    return lines(samples, columns)


def sample_grid(images: Tensor, columns: int) -> "Image":
    """Images (N, 1|3, H, W) in [-1, 1], row by row in `columns` columns, small ones enlarged pixel by pixel to about 48.

    Values outside the range are clipped; NaN is drawn in middle grey. Raises ValueError on other shapes.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images: wants shape (N, 1, H, W) or (N, 3, H, W), got {tuple(images.shape)}")
    if columns < 1:
        raise ValueError(f"columns: wants at least 1, got {columns}")
    pixels = images.detach().float().cpu().nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    zoom = max(1, round(_TILE / max(pixels.shape[-2:])))
    pixels = pixels.expand(-1, 3, -1, -1).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    height, width = (side + _GUTTER for side in pixels.shape[-2:])
    sheet = torch.full((3, rows * height + _GUTTER, columns * width + _GUTTER), _PAPER, dtype=torch.uint8)
    for i, tile in enumerate(pixels):
        top, left = i // columns * height + _GUTTER, i % columns * width + _GUTTER
        sheet[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return _needs("PIL.Image").fromarray(sheet.permute(1, 2, 0).contiguous().numpy())


def scatter(samples: Tensor, data: Tensor | None = None, labels: Tensor | None = None) -> "Image":
    """Points (N, 2) over those of `data` (M, 2) in grey, at most 4,000 of each, both axes to one scale.

    labels: (N,) integers that colour the samples. The window is the data's, so that a few stray samples do not shrink it.
    """
    for name, t in (("samples", samples), ("data", data)):
        if t is not None and (t.dim() != 2 or t.shape[1] != 2 or not len(t)):
            raise ValueError(f"{name}: wants shape (N, 2), got {tuple(t.shape)}")
    figure, axes = _canvas(1, 1, width=5.2, height=5.2)
    here, keep = _finite_rows(samples)
    if data is not None:
        there = _finite_rows(data)[0]
        axes[0].scatter(there[:, 0].numpy(), there[:, 1].numpy(), s=5, c="#b8b8b8", linewidths=0, label="data")
    colours: Any = COLOURS[0]
    if labels is not None:
        colours = [COLOURS[int(c) % len(COLOURS)] for c in labels[: len(keep)].cpu()[keep]]
    axes[0].scatter(here[:, 0].numpy(), here[:, 1].numpy(), s=5, c=colours, linewidths=0, label="samples")
    frame = there if data is not None and len(there) else here
    if len(frame):
        low, high = frame.min(0).values, frame.max(0).values
        middle, reach = (low + high) / 2, float((high - low).max()) * 0.65 or 1.0
        axes[0].set_xlim(float(middle[0]) - reach, float(middle[0]) + reach)
        axes[0].set_ylim(float(middle[1]) - reach, float(middle[1]) + reach)
    axes[0].set_aspect("equal")
    axes[0].legend(loc="upper right", frameon=False, markerscale=3)
    return _picture(figure)


def histogram(samples: Tensor, data: Tensor | None = None) -> "Image":
    """Densities of numbers (N,) or (N, 1), those of `data` filled in grey behind."""
    figure, axes = _canvas(1, 1, width=6, height=3.6)
    values = {"data": data, "samples": samples}
    flat = {name: t.detach().float().cpu().flatten() for name, t in values.items() if t is not None}
    flat = {name: t[t.isfinite()] for name, t in flat.items()}
    spread = flat["data"] if len(flat.get("data", [])) else flat["samples"]
    span = (float(spread.min()), float(spread.max())) if len(spread) else (0.0, 1.0)
    margin = 0.15 * (span[1] - span[0]) or 0.5
    edges = torch.linspace(span[0] - margin, span[1] + margin, 81).tolist()
    looks: dict[str, dict[str, Any]] = {
        "data": {"histtype": "stepfilled", "color": "#c8c8c8"},
        "samples": {"histtype": "step", "color": COLOURS[0], "lw": 1.6},
    }
    for name, t in flat.items():
        weights = [1 / (len(t) * (edges[1] - edges[0])) for _ in t]
        axes[0].hist(t.tolist(), bins=edges, weights=weights, label=name, **looks[name])
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False)
    return _picture(figure)


def lines(samples: Tensor, columns: int = 4, count: int = 16) -> "Image":
    """The first `count` samples (N, T) or (N, C, T) as curves over their last dimension, one panel each, all to one scale."""
    curves = samples[:count].detach().float().cpu()
    curves = curves.flatten(1, -2) if curves.dim() > 2 else curves.reshape(len(curves), 1, -1)
    columns = min(columns, len(curves), 4)
    rows = math.ceil(len(curves) / columns)
    figure, axes = _canvas(rows, columns, width=2.4 * columns, height=1.4 * rows, sharex=True, sharey=True)
    for panel, sample in zip(axes, curves, strict=False):
        for channel, curve in enumerate(sample):
            panel.plot(curve.numpy(), lw=1, color=COLOURS[channel % len(COLOURS)])
    for panel in axes[len(curves) :]:
        panel.set_axis_off()
    return _picture(figure)


def loss_plot(records: Sequence[Record], title: str = "") -> "Image":
    """Curves of log records over their "step": one panel a phase with its terms, one each for "metric/..." and "state/...".

    Keys without a slash are no curves, nor are values that are no numbers; NaN and inf are gaps. A panel of positive values that
    span more than two decades is logarithmic. Raises ValueError where there is nothing to draw.
    """
    panels = panels_of(records)
    if not panels:
        raise ValueError("records: want at least one term under a key such as 'D/loss', got none")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = _canvas(rows, columns, width=4.4 * columns, height=2.9 * rows)
    for panel, (name, curves) in zip(axes, panels.items(), strict=False):
        for i, (term, points) in enumerate(curves.items()):
            style = _STYLES[i // len(COLOURS) % len(_STYLES)]
            mark = "o" if len(points) == 1 else None
            steps, values = zip(*points, strict=True)
            panel.plot(steps, values, style, color=COLOURS[i % len(COLOURS)], lw=1.4, marker=mark, label=term)
        panel.set_title(name, loc="left", fontweight="bold")
        panel.set_xlabel("step")
        panel.set_yscale("log" if spans_decades(curves) else "linear")
        if not name.endswith(f"/{next(iter(curves))}"):
            panel.legend(frameon=False)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    if title:
        figure.suptitle(title)
    return _picture(figure)


def diagram(draw: "Callable[[Axes], Any]", xlabel: str, ylabel: str, **settings: Any) -> "Figure | None":
    """A figure of one panel that `draw(axes)` fills, with a legend where something has a label.

    settings: of the axes, such as yscale="log". None without matplotlib: the numbers that go with it are worth printing alone.
    """
    try:
        figure, (axes,) = _canvas(1, 1, width=6.4, height=3.6)
    except UsageError:
        return None
    draw(axes)
    axes.set(xlabel=xlabel, ylabel=ylabel, **settings)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)
    return figure


def curves(lines: Mapping[str, tuple[Any, Any]], xlabel: str, ylabel: str, **settings: Any) -> "Figure | None":
    """A diagram of curves name -> (x, y), told apart by colour and by dashes."""

    def draw(axes: "Axes") -> None:
        for i, (name, (x, y)) in enumerate(lines.items()):
            axes.plot(x, y, _STYLES[i % len(_STYLES)], color=COLOURS[i % len(COLOURS)], lw=1.6, label=name)

    return diagram(draw, xlabel, ylabel, **settings)


def panels_of(records: Sequence[Record]) -> dict[str, Curves]:
    """Log records as panel -> curve -> [(step, value)]: a panel for each phase, metric and state; NaN where a value is none."""
    found: dict[tuple[int, str], Curves] = {}
    for record in records:
        for key, value in record.items():
            group, slash, name = key.partition("/")
            if not slash or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            rank = _RANKS.get(group, 0)
            point = (float(record.get("step", 0)), float(value) if math.isfinite(value) else math.nan)
            found.setdefault((rank, key if rank else group), {}).setdefault(name, []).append(point)
    return {panel: curves for (_, panel), curves in sorted(found.items(), key=lambda item: item[0][0])}


def spans_decades(curves: Curves) -> bool:
    """Whether all finite values are positive and the largest is more than 100 times the smallest."""
    values = [value for points in curves.values() for _, value in points if math.isfinite(value)]
    return bool(values) and min(values) > 0 and max(values) > 100 * min(values)


def save_png(picture: "Image", path: Path | str) -> None:
    """Write a PNG atomically: the file is the old one or the whole new one. Raises OutputError."""
    write_atomic(Path(path), lambda file: picture.save(file, "PNG"))


def _kind(samples: Tensor) -> str:
    shape = tuple(samples.shape[1:])
    if len(shape) == 3 and shape[0] in (1, 3):
        return "images"
    if len(shape) == 4 and shape[0] in (1, 3):
        return "voxels" if shape[0] == 1 and len({*shape[1:]}) == 1 else "clips"
    if shape == (2,):
        return "scatter"
    return "histogram" if shape in ((), (1,)) else "lines"


def _silhouettes(voxels: Tensor) -> Tensor:
    if voxels.dim() != 5 or voxels.shape[1] != 1 or len({*voxels.shape[2:]}) != 1:
        raise ValueError(f"samples: voxels want shape (N, 1, D, D, D), got {tuple(voxels.shape)}")
    return torch.stack([voxels.amax(axis) for axis in (2, 3, 4)], 1).flatten(0, 1)


def _film(clips: Tensor, count: int = 8) -> "Image":
    if clips.dim() != 5 or clips.shape[1] not in (1, 3):
        raise ValueError(f"samples: clips want shape (N, 1|3, T, H, W), got {tuple(clips.shape)}")
    return sample_grid(clips[:count].transpose(1, 2).flatten(0, 1), clips.shape[2])


def _finite_rows(points: Tensor, most: int = 4000) -> tuple[Tensor, Tensor]:
    points = points.detach().float().cpu()[:most]
    keep = points.isfinite().all(1)
    return points[keep], keep


def _needs(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        package = {"PIL": "pillow"}.get(module.split(".")[0], module.split(".")[0])
        raise UsageError(f'pictures need {package}, which is missing; pip install "gancore[train]"') from None


def _canvas(rows: int, columns: int, *, width: float, height: float, **shared: bool) -> "tuple[Figure, list[Axes]]":
    figure = _needs("matplotlib.figure").Figure(figsize=(width, height), dpi=110, layout="constrained")
    _needs("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(True, color="#e6e6e6", lw=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
    return figure, axes


def _picture(figure: "Figure") -> "Image":
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return _needs("PIL.Image").open(buffer).convert("RGB")
