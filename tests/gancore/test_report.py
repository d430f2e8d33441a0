"""The report: what it reads, what it says is missing, what it escapes, and how a browser finds it."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from gancore import report
from gancore.core import DataError, UsageError
from gancore.report import charts

RUN = {
    "recipe": "wgan-gp", "title": "WGAN-GP, arXiv:1704.00028.", "options": {"steps": 400, "ema": 0.995, "out": "runs/x"},
    "parameters": {"lr": 0.00012345678, "penalty": 10.0}, "seed": 3, "versions": {"torch": "2.13.0"}, "commit": "abc123",
    "data": {"name": "digits8", "size": 1797, "shape": [1, 8, 8], "digest": "feed"}, "device": "a processor",
    "command": "gancore train wgan-gp --data=digits8", "started": "2026-01-02T03:04:05", "players": {"G": 1200, "D": 34},
    "phases": [{"stage": "main", "phase": "D", "repeats": 5, "every": 1, "routes": ["D <- 1 loss + 10 penalty"]}],
}  # fmt: skip

LOG = [
    {"step": 50 * i, "seconds": 2.0 * i, "speed": 100.0 + i, "stage": "main", "D/loss": 1.0 / i, "D/penalty": 0.5, "G/loss": -i,
     "state/k": 0.1 * i, **({"metric/fid": 40.0 / i} if i % 4 == 0 else {})}
    for i in range(1, 9)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in LOG))
    (tmp_path / "samples").mkdir()
    for step in (100, 400, 200):
        Image.new("RGB", (52, 52), (step // 2, 0, 0)).save(tmp_path / "samples" / f"step-{step:08d}.png")
    return tmp_path


class Page(HTMLParser):
    """Text, and every attribute that could make a browser fetch something."""

    def __init__(self, html):
        super().__init__()
        self.text, self.sources, self.tags = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data", "poster")]

    def handle_data(self, data):
        self.text.append(data)

    def __contains__(self, words):
        return words in " ".join(" ".join(self.text).split())


def page(folder):
    return Page(report.write_report(folder).read_text(encoding="utf-8"))


def test_the_page_shows_what_the_run_holds(folder):
    found = page(folder)
    shown = [
        "wgan-gp", "arXiv:1704.00028", "400 of 400", "16.0 s", "1,234", "fid 5", "D <- 1 loss + 10 penalty", "a processor",
        "abc123", "0.00012345678", "0.995", "gancore train wgan-gp --data=digits8", "2.13.0", "1 × 8 × 8", "feed",
        "Last values, step 400",
    ]  # fmt: skip
    for words in shown:
        assert words in found, words
    assert found.tags.count("svg") == 4
    assert found.tags.count("path") == 5
    assert "no metrics" not in found


def test_samples_lie_in_the_page_in_the_order_of_steps(folder):
    pictures = [s for s in page(folder).sources if s.startswith("data:image/png")]
    assert len(pictures) == 3
    decoded = [base64.b64decode(p.split(",")[1]) for p in pictures]
    assert decoded == [(folder / "samples" / f"step-{s:08d}.png").read_bytes() for s in (100, 200, 400)]


def test_nothing_is_fetched(folder):
    assert all(source.startswith("data:") for source in page(folder).sources)
    html = (folder / "report.html").read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", html)


def test_many_pictures_are_thinned_and_the_last_stays(folder):
    picture = (folder / "samples" / "step-00000100.png").read_bytes()
    for step in range(1, 101):
        (folder / "samples" / f"step-{step:08d}.png").write_bytes(picture)
    found = report.gather(folder)
    assert len(found["samples"]) == report.PICTURES
    assert (found["samples"][0].step, found["samples"][-1].step) == (1, 400)
    assert "40 of 102 pictures of samples are shown, spread over the run" in found["missing"]


def test_everything_is_escaped(folder):
    evil = "<img src=http://e.vil onerror=alert(1)>'\"</script>&"
    run = {**RUN, "recipe": evil, "command": evil, "options": {evil: evil}, "phases": [{evil: [evil]}], "title": evil}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "log.jsonl").write_text(json.dumps({"step": 1, f"{evil}/{evil}": 1.0, f"metric/{evil}": 2.0}) + "\n")
    found = page(folder)
    assert found.tags.count("img") == 3
    assert found.tags.count("script") == 1
    assert all(source.startswith("data:") for source in found.sources)
    assert evil in found


def test_missing_parts_are_said(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    found = page(tmp_path)
    for note in ("no log.jsonl, so no curves", "no pictures of samples in samples/", "no metrics, neither in metrics.json nor"):
        assert note in found
    (tmp_path / "log.jsonl").write_text("")
    assert "log.jsonl is empty, so no curves" in page(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 5, "D/loss": 1.0}\n{"step": 6, "D/lo')
    found = page(tmp_path)
    assert "1 line of log.jsonl could not be read" in found
    assert found.tags.count("circle") == 1


def test_final_metrics_come_first(folder):
    (folder / "metrics.json").write_text('{"kid": 0.0125}')
    assert "Last values, metrics.json kid 0.0125" in page(folder)
    (folder / "metrics.json").write_text("[1]")
    with pytest.raises(DataError, match=r"metrics.json is damaged: it holds list, not an object"):
        report.write_report(folder)


def test_a_folder_that_holds_no_run_is_an_error_that_names_the_file(folder):
    before = report.write_report(folder).read_bytes()
    (folder / "run.json").write_text('{"recipe": ')
    with pytest.raises(DataError, match=r"run.json is damaged: Expecting value"):
        report.write_report(folder)
    (folder / "run.json").unlink()
    with pytest.raises(DataError, match=r"run.json: there is no such file, so .* holds no run"):
        report.write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_a_missing_library_is_one_clear_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r'the report needs jinja2, which is missing; pip install "gancore\[train\]"'):
        report.write_report(folder)


def test_charts_place_points_and_leave_gaps():
    points = [(0.0, 0.0), (50.0, math.nan), (60.0, 1.0), (100.0, 2.0)]
    drawn = charts.chart("D", {"loss": points}, (0.0, 100.0))
    series = drawn.series[0]
    assert (series.gaps, series.last, len(series.dots)) == (1, "2", 1)
    low, middle, high = ({t.text: t.at for t in drawn.y_ticks}[text] for text in ("0.0", "1.0", "2.0"))
    left, right = drawn.x_ticks[0].at, drawn.x_ticks[-1].at
    assert series.dots[0] == pytest.approx((left, low))
    (x1, y1), (x2, y2) = (tuple(map(float, p.split(","))) for p in series.path.removeprefix("M").split("L"))
    assert (x2, y1, y2) == pytest.approx((right, middle, high), abs=0.02)
    assert x1 == pytest.approx(left + 0.6 * (right - left), abs=0.02)
    assert low > middle > high


def test_charts_of_odd_values():
    for values in ([1.0], [3.0, 3.0], [math.nan], [0.0, 0.0], [1e-30, 1e30], [-1e9, 1e9], [1e6, 1e6 + 1e-3]):
        drawn = charts.chart("x", {"x": list(enumerate(values))}, (0, len(values) - 1))
        for tick in (*drawn.x_ticks, *drawn.y_ticks):
            assert 0 <= tick.at <= charts.WIDTH
        assert len(drawn.y_ticks) <= 9
    assert charts.chart("x", {"x": [(0, 1.0), (1, 1e4)]}, (0, 1)).log


def test_thinning_keeps_spikes_gaps_and_the_end():
    points = [(float(i), math.sin(i / 50)) for i in range(5000)]
    points[1234] = (1234.0, 99.0)
    points[3000] = (3000.0, math.nan)
    thinned = charts.thin(points)
    assert len(thinned) <= 402
    assert (1234.0, 99.0) in thinned
    assert any(math.isnan(v) for _, v in thinned)
    assert thinned[-1] == points[-1]
    assert [s for s, _ in thinned] == sorted(s for s, _ in thinned)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.08, "0.08"),
        (6.9578, "6.958"),
        (12345.6, "12,346"),
        (1e-7, "1.000e-07"),
        (1797, "1,797"),
        (math.inf, "inf"),
        (-0.5, "-0.5"),
    ],
)
def test_figures_read_well(value, text):
    assert charts.number(value) == text


def test_durations_read_well():
    assert [report.duration(s) for s in (9.96, 125, 7620)] == ["10.0 s", "2 min 05 s", "2 h 07 min"]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_a_browser_draws_the_page_without_errors(folder, tmp_path):
    target = report.write_report(folder)
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run([BROWSER, *flags, target.as_uri()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    assert 'data-charts="4"' in done.stdout
    assert '<figure class="print now">' in done.stdout
    assert done.stdout.count('aria-current="false"') == 2
    assert done.stdout.count('aria-current="true">') == 1
