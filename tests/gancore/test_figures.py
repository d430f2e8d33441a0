"""Pictures: every pixel of a small grid, the choice by shape, curves that show what the log holds, and files written whole."""

import math
import subprocess
import sys

import numpy
import pytest
import torch
from PIL import Image

from gancore import figures
from gancore.core import UsageError


def pixels(picture):
    return numpy.asarray(picture.convert("RGB")).astype(int)


def drawn(picture, colour):
    """Number of pixels that are nearly of a colour "#rrggbb"."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(pixels(picture) - wanted).max(-1) < 12).sum())


def test_grid_shows_every_pixel_of_every_image_in_order():
    images = torch.linspace(-1, 1, 5 * 3 * 40 * 60).reshape(5, 3, 40, 60)
    sheet = pixels(figures.sample_grid(images, columns=3))
    assert sheet.shape == (2 * 42 + 2, 3 * 62 + 2, 3)
    for i, image in enumerate(images):
        top, left = 2 + i // 3 * 42, 2 + i % 3 * 62
        tile = sheet[top : top + 40, left : left + 60].transpose(2, 0, 1)
        assert abs(tile / 127.5 - 1 - image.numpy()).max() <= 0.5 / 127.5 + 1e-6
    assert (sheet[44:, 2 + 2 * 62 :] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels_and_grey_is_grey():
    images = torch.tensor([-1.0, 1.0, 0.5, -0.5]).reshape(1, 1, 2, 2)
    sheet = pixels(figures.sample_grid(images, columns=8))
    assert sheet.shape == (52, 52, 3)
    assert (sheet[2:26, 2:26] == 0).all()
    assert (sheet[2:26, 26:50] == 255).all()
    assert (sheet[26:50, 2:26] == 191).all()
    assert figures.sample_grid(torch.zeros(1, 1, 100, 100), 1).size == (104, 104)


def test_values_out_of_range_are_clipped_and_nan_is_grey():
    images = torch.tensor([-9.0, 9.0, torch.nan, torch.inf]).reshape(4, 1, 1, 1)
    sheet = pixels(figures.sample_grid(images, columns=4))
    assert [sheet[20, 20 + 50 * i, 0] for i in range(4)] == [0, 255, 128, 255]


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 8, 8), (0, 1, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"images: wants shape .* got \("):
        figures.sample_grid(torch.zeros(shape), 4)


def test_the_shape_chooses_the_picture(monkeypatch):
    for kind in ("sample_grid", "scatter", "histogram", "lines", "_film", "_silhouettes"):
        monkeypatch.setattr(figures, kind, lambda *a, kind=kind: kind)
    choices = {
        (4, 1, 8, 8): "sample_grid", (4, 3, 8, 8): "sample_grid", (4, 2): "scatter", (4, 1): "histogram", (4,): "histogram",
        (4, 64): "lines", (4, 1, 64): "lines", (4, 3, 5, 8, 8): "_film", (4, 1, 5, 8, 8): "_film",
    }  # fmt: skip
    for shape, wanted in choices.items():
        assert figures.sample_picture(torch.zeros(shape)) == wanted, shape
    monkeypatch.setattr(figures, "sample_grid", lambda images, columns: images)
    assert figures.sample_picture(torch.zeros(4, 1, 8, 8, 8)) == "_silhouettes"
    with pytest.raises(ValueError, match=r"kind: wants one of auto, images, .* got 'photo'"):
        figures.sample_picture(torch.zeros(4, 2), kind="photo")
    with pytest.raises(ValueError, match="samples: wants at least one, got none"):
        figures.sample_picture(torch.zeros(0, 2))


def test_voxels_are_seen_along_each_axis():
    voxels = -torch.ones(1, 1, 4, 4, 4)
    voxels[0, 0, :2, 1:, 3] = 1
    sheet = pixels(figures.sample_picture(voxels))[:, :, 0]
    seen = [(sheet[2:50, 2 + 50 * i : 50 + 50 * i] == 255).mean() for i in range(3)]
    assert seen == pytest.approx([3 / 16, 2 / 16, 6 / 16])


def test_clips_are_film_strips():
    clips = torch.linspace(-1, 1, 5).reshape(1, 1, 5, 1, 1).expand(2, 3, 5, 16, 16)
    sheet = pixels(figures.sample_picture(clips))
    assert sheet.shape == (2 * 50 + 2, 5 * 50 + 2, 3)
    assert [sheet[20, 20 + 50 * i, 0] for i in range(5)] == [0, 64, 128, 191, 255]


def test_scatter_shows_samples_over_data_and_is_not_shrunk_by_strays():
    data = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    plain = figures.scatter(data + 1, data)
    assert drawn(plain, "#b8b8b8") > 300
    assert drawn(plain, figures.COLOURS[0]) > 300
    strays = torch.cat([data[1:] + 1, torch.tensor([[1e6, torch.nan]])])
    assert drawn(figures.scatter(strays, data), "#b8b8b8") > 0.9 * drawn(plain, "#b8b8b8")
    far = torch.cat([data[1:] + 1, torch.tensor([[1e6, 0.0]])])
    assert drawn(figures.scatter(far, data), "#b8b8b8") > 0.9 * drawn(plain, "#b8b8b8")
    labelled = figures.scatter(data, labels=torch.arange(500) % 2)
    assert min(drawn(labelled, figures.COLOURS[i]) for i in (0, 1)) > 300


def test_histogram_lines_and_samples_that_are_all_nan():
    values = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    assert drawn(figures.sample_picture(values, values), "#c8c8c8") > 2000
    assert drawn(figures.sample_picture(torch.sin(torch.arange(64.0)).expand(3, 64)), figures.COLOURS[0]) > 300
    for shape in ((5, 1), (5, 2), (5, 64)):
        figures.sample_picture(torch.full(shape, torch.nan))


RECORDS = [
    {"step": 50 * i, "seconds": 1.0 * i, "speed": 9.0, "stage": "main", "D/loss": 1.0 / i, "D/penalty": 0.5, "G/loss": -1.0 * i,
     "state/k": 0.1, **({"metric/fid": 200.0 / i**3} if i % 2 == 0 else {})}
    for i in range(1, 9)
]  # fmt: skip


def test_panels_are_phases_then_metrics_then_state():
    panels = figures.panels_of(RECORDS)
    assert list(panels) == ["D", "G", "metric/fid", "state/k"]
    assert list(panels["D"]) == ["loss", "penalty"]
    assert panels["metric/fid"]["fid"][0] == (100.0, 25.0)
    assert math.isnan(figures.panels_of([{"step": 1, "D/loss": math.inf}])["D"]["loss"][0][1])
    assert [figures.spans_decades(p) for p in panels.values()] == [False, False, False, False]
    assert figures.spans_decades({"fid": [(0, 1.0), (1, 101.0), (2, math.nan)]})
    assert not figures.spans_decades({"loss": [(0, 0.0), (1, 101.0)]})


def test_loss_plot_draws_every_curve_and_gaps_for_nan():
    picture = figures.loss_plot(RECORDS, "a run")
    assert drawn(picture, figures.COLOURS[1]) > 100
    holes = [{**r, "D/penalty": math.nan} if 2 <= i <= 6 else r for i, r in enumerate(RECORDS)]
    assert drawn(figures.loss_plot(holes), figures.COLOURS[1]) < drawn(picture, figures.COLOURS[1])
    figures.loss_plot([{"step": 0, "D/loss": math.inf}])
    with pytest.raises(ValueError, match="records: want at least one term"):
        figures.loss_plot([{"step": 1, "speed": 3.0}])


def test_png_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "step.png"
    figures.save_png(Image.new("RGB", (4, 4), "red"), path)
    assert Image.open(path).size == (4, 4)

    class Broken:
        def save(self, file, kind):
            file.write(b"half a picture")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        figures.save_png(Broken(), path)
    assert Image.open(path).size == (4, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["step.png"]


def test_a_missing_library_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r'pictures need matplotlib, which is missing; pip install "gancore\[train\]"'):
        figures.scatter(torch.zeros(3, 2))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UsageError, match="pictures need pillow"):
        figures.sample_grid(torch.zeros(1, 1, 8, 8), 1)


def test_importing_loads_no_plots_and_drawing_no_global_state():
    code = (
        "import sys, torch; from gancore import figures; print('matplotlib' in sys.modules, 'PIL' in sys.modules);"
        "figures.scatter(torch.randn(9, 2)); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "False"], done.stderr
