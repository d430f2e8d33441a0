"""The gallery: what is measured, who is ranked where, what is stale, and what the page shows, the committed one too."""

import base64
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import CliRunner

import gancore
from gancore import evaluation, figures
from gancore.cli.app import app
from gancore.core import DataError, Phase, Recipe, Stage, UsageError, adam, demo, recipe
from gancore.core.registry import ENTRIES
from gancore.gallery import demos, measure, protocol, store
from gancore.gallery.page import render
from gancore.gallery.ranking import ranked
from gancore.recipes import get, names
from gancore.report.charts import number

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12
TITLES = {"modes": "modes", "high quality": "hq", "FID": "fid", "classes": "classes"}


class Page(HTMLParser):
    """Text, tags, addresses, and the ranking as recipe -> heading -> value of the cell, None for a dash."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.links, self.sources, self.words = [], [], [], []
        self.feed(html)
        table = re.search(r'<table class="ranking".*?</table>', html, re.S).group()
        text = lambda cell: " ".join(re.sub(r"<.*?>", "", cell).split())
        lines = [re.findall(r"<t([hd])([^>]*)>(.*?)</t[hd]>", line, re.S) for line in re.findall(r"<tr>(.*?)</tr>", table, re.S)]
        heads = [text(cell) for _, _, cell in lines[0]]
        self.ranking = {}
        for line in lines[1:]:
            values = [(re.search(r'data-v="(.*?)"', given), text(cell)) for _, given, cell in line]
            cells = [text if found is None else float(found[1]) if found[1] else None for found, text in values]
            self.ranking[cells[1].removesuffix(" †")] = dict(zip(heads, cells, strict=True))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "action", "data", "poster", "href"):
                (self.links if tag == "a" else self.sources).append(value)

    def handle_data(self, data):
        self.words.append(data)

    def count(self, words):
        return " ".join(" ".join(self.words).split()).count(words)

    def __contains__(self, words):
        return self.count(words) > 0


def agrees(page: Page, results: dict) -> None:
    """Every figure of the ranking is that of its result, and every result has a line."""
    assert set(page.ranking) == set(results)
    for name, result in results.items():
        row = page.ranking[name]
        for data, run in result["runs"].items():
            kind = ("FID", "classes") if "digits" in data else ("modes", "high quality")
            assert [row[title] for title in kind] == [run.get("scores", {}).get(TITLES[title]) for title in kind], name
            assert row[f"ms, {data}"] == run.get("ms"), name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A gallery of two recipes, made by the command; in this process, which is quicker than processes of their own."""
    out = tmp_path_factory.mktemp("gallery") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "apart", measure.results)
        done = CliRunner().invoke(app, ["gallery", "gan-ns", "lr-gan", "--steps", str(STEPS), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "lr-gan on ring8: refused: the dcgan body needs square images" in done.output
    return out


@pytest.fixture
def own():
    """What a test registers is taken back."""
    names()
    before = dict(ENTRIES)
    yield
    ENTRIES.clear()
    ENTRIES.update(before)


def test_results_are_those_of_a_run_with_the_same_settings(tiny):
    found = store.read(tiny)["gan-ns"]["runs"]
    for data, run in found.items():
        assert run["arguments"]["steps"] == STEPS
        again = gancore.train("gan-ns", **run["arguments"])
        judged = evaluation.scores(again.sample, again.data)
        assert {name: pytest.approx(value, rel=1e-3) for name, value in run["scores"].items()} == judged
        assert run["parameters"] == {player: sum(p.numel() for p in net.parameters()) for player, net in again.nets.items()}
        assert run["curves"]["step"] == [r["step"] for r in again.metrics] == list(range(1, STEPS + 1))
        assert run["curves"]["critic/critic"] == pytest.approx([r["critic/critic"] for r in again.metrics], rel=1e-3)
        assert f"--data={data}" in run["command"]
        assert run["ms"] > 0
    points = torch.tensor(found["ring8"]["points"]).view(-1, 2) / measure.UNITS
    run = gancore.train("gan-ns", **found["ring8"]["arguments"])
    torch.testing.assert_close(points, run.sample(measure.POINTS), atol=0.0051, rtol=0)


def test_the_page_shows_figures_pictures_and_reasons(tiny):
    html = tiny.with_name("small.html").read_text()
    page, results = Page(html), store.read(tiny)
    agrees(page, results)
    assert page.ranking["lr-gan"]["modes"] is None
    assert page.count("refused: the dcgan body needs square images whose side is 4 times a power of two") == 2  # in list and card
    assert page.tags.count("img") == 2
    assert len(re.findall(r'class="made" d="(M-?\d+ -?\d+h0)+"', html)) == 1
    for words in ("arXiv:1406.2661", "G ascends log D(G(z)) instead", "12 × 256", "12 × 64", "No result yet: aae", "components"):
        assert words in page, words
    curves = sum("/" in key for result in results.values() for run in result["runs"].values() for key in run.get("curves", {}))
    assert html.count('class="curve') + html.count("<circle") >= curves > 10


def test_nothing_is_fetched(tiny):
    html = tiny.with_name("small.html").read_text()
    page = Page(html)
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert all(link.startswith(("#", "https://arxiv.org/abs/", "https://doi.org/")) for link in page.links)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", html)


def test_cost_leaves_out_the_ticks_that_judge_samples(monkeypatch):
    seconds = iter([0.0, 0.5, 0.6, 9.0, 9.3, 9.9])  # start; a tick reads the clock twice, one that judges once, when it is done
    monkeypatch.setattr(measure.time, "process_time", lambda: next(seconds))
    clock = measure.Clock()
    saves = type("Run", (), {"saves": lambda self, step: step == 20})()
    for step in (10, 20, 30):
        clock(saves, {"step": step})
    assert clock.found == pytest.approx([50.0, 30.0])


def test_only_what_is_stale_is_run(tiny, tmp_path, monkeypatch):
    """Of a process of its own, which imports what its recipe needs and no other."""
    sets = ["ring8"]
    store.refresh(["gan-ns"], tmp_path, sets, STEPS, tell=lambda result: None)
    result = store.read(tmp_path)["gan-ns"]
    assert result["runs"]["ring8"]["scores"] == store.read(tiny)["gan-ns"]["runs"]["ring8"]["scores"]
    assert not store.stale("gan-ns", result, sets, STEPS)
    assert store.stale("gan-ns", None, sets, STEPS)
    assert store.stale("gan-ns", result, sets, STEPS + 1)
    assert store.stale("gan-ns", result, [*sets, "digits8"], STEPS)
    assert {"recipes/divergence/gan_ns.py", "trainer.py", "gallery/measure.py"} <= set(result["files"])
    assert not {"recipes/ipm/wgan.py", "gallery/page.py", "gallery/protocol.py"} & set(result["files"])
    with monkeypatch.context() as patch:
        patch.setitem(protocol._PLANE, "gan-ns", {"critic_steps": 2})
        assert store.stale("gan-ns", result, sets, STEPS)
    before = store.digest
    monkeypatch.setattr(store, "digest", lambda name: "other" if name == "losses.py" else before(name))
    assert store.stale("gan-ns", result, sets, STEPS)


def test_a_docstring_or_a_comment_makes_nothing_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    for name, text in {"a": '"""One."""\nx = 1\n', "b": '"""Two."""\nx = 1  # why\n', "c": '"""One."""\nx = 2\n'}.items():
        (tmp_path / f"{name}.py").write_text(text)
    digest = store.digest.__wrapped__
    assert digest("a.py") == digest("b.py") != digest("c.py")
    assert digest("gone.py") == "missing"


def test_runs_that_cannot_be_say_why(own, monkeypatch, capsys):
    def bad(message: str, error: type[Exception] | None) -> Recipe:
        def loss(nets, batch, state):
            if error:
                raise error(message)
            return {"loss": nets.G(batch["z"]).sum() * float("nan")}

        build = lambda spec: {"G": gancore.nets.generator(spec)}
        return Recipe(build, {"G": adam(1e-3)}, [Stage("only", 1.0, [Phase("only", {"G": {"loss": 1.0}}, loss)])])

    recipe(id="breaks")(lambda: bad("no such luck", RuntimeError))
    recipe(id="explodes")(lambda: bad("", None))
    assert measure.one("breaks", "ring8", STEPS)["failed"] == "RuntimeError: no such luck"
    assert "no such luck" in capsys.readouterr().err
    assert measure.one("explodes", "ring8", STEPS)["diverged"].startswith("only/loss is nan at step 1")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    died = store.apart("breaks", ["ring8"], STEPS)
    assert died["runs"]["ring8"]["failed"] == "the process ended with 1: no message"
    about = {"code": store.code([]), "commit": "", "versions": {"torch": "2"}}
    assert store.stale("breaks", {**died, **about}, ["ring8"], STEPS)
    page = Page(render({"breaks": {**died, **about}}))
    assert "failed: the process ended with 1: no message" in page
    assert page.ranking["breaks"]["rank"] == 1


def test_the_ranking_rule():
    def result(ring, digits):
        def run(given, *keys):
            return given if isinstance(given, dict) else {"scores": dict(zip(keys, given[:2], strict=True)), "ms": given[2]}

        return {"runs": {"ring8": run(ring, "modes", "hq"), "digits8": run(digits, "fid", "classes")}}

    nan = float("nan")
    rows = ranked(
        {
            "even": result((8, 0.5, 1.0), (20.0, 10, 1.0)),
            "modes-first": result((7, 0.9, 1.0), (10.0, 10, 1.0)),
            "even-cheaper": result((8, 0.5, 1.0), (20.0, 9, 0.5)),
            "one-set": result({"refused": "no"}, (15.0, 10, 9.0)),
            "diverged": result((8, 0.6, 1.0), {"diverged": "nan"}),
            "no-number": result((1, 0.1, 1.0), (nan, 1, 1.0)),
            "none": result({"refused": "no"}, {"refused": "no"}),
        }
    )
    places = {row.recipe: row.places for row in rows}
    assert places == {
        "diverged": {"ring8": 1, "digits8": 5},
        "even": {"ring8": 2, "digits8": 3},
        "even-cheaper": {"ring8": 2, "digits8": 3},
        "modes-first": {"ring8": 4, "digits8": 1},
        "no-number": {"ring8": 5, "digits8": 5},
        "one-set": {"digits8": 2},
        "none": {},
    }
    # The middle of five places on the ring is 3, so that one-set has the mean of even, and takes longer.
    wanted = ["even-cheaper", "even", "modes-first", "one-set", "diverged", "no-number", "none"]
    assert [row.recipe for row in rows] == wanted
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5, 6, 0]


def test_mosaic_keeps_every_pixel():
    from PIL import Image

    images = torch.linspace(-1, 1, 12 * 64).view(12, 1, 8, 8)
    picture = Image.open(io.BytesIO(base64.b64decode(measure.mosaic(images).partition(",")[2])))
    pixels = torch.from_numpy(numpy.array(picture)) / 127.5 - 1
    assert pixels.shape == (2 * 9 + 1, 10 * 9 + 1)
    for i in (0, 9, 10, 11):
        y, x = i // 10 * 9 + 1, i % 10 * 9 + 1
        torch.testing.assert_close(pixels[y : y + 8, x : x + 8], images[i, 0], atol=0.07, rtol=0)


def test_settings_are_parameters_of_their_recipes():
    for data, settings in protocol.SETTINGS.items():
        for name, given in settings.items():
            assert set(given) <= set(get(name, "recipe").parameters()), name
        assert {k: v for k, v in protocol.arguments(get("wgan"), data).items() if k in ("lr", "clip_value")} == {
            "lr": 1e-3, **settings.get("wgan", {}),
        }  # fmt: skip
    with pytest.raises(UsageError, match="the gallery shows ring8, grid25, digits8, got 'moons'"):
        protocol.arguments(get("wgan"), "moons")


def test_usage(tmp_path):
    invoke = lambda *words: CliRunner().invoke(app, ["gallery", *map(str, words)])
    for words, told in (
        (("gan-nss",), "unknown name 'gan-nss'; did you mean gan-ns"),
        (("--data", "ring8,moons"), "the gallery shows ring8, grid25, digits8, got 'moons'"),
        (("gan-ns", "--page"), "leave the names out"),
        (("fid",), "the gallery shows gancore's own recipes and demonstrations, 'fid' is none"),
    ):
        done = invoke(*words, "--out", tmp_path / "x")
        assert done.exit_code == 2, words
        assert told in done.stderr
    (tmp_path / "gan-ns.json").write_text('{"recipe": "wgan"}')
    with pytest.raises(DataError, match=r"gan-ns.json is damaged: it is the result of 'wgan'"):
        store.read(tmp_path)


def test_demonstrations_are_drawn_with_their_figures(own, capsys):
    drawing = figures.curves({"x": ([0, 1], [0, 1])}, "", "")
    demo(id="works")(lambda: ({"pi": 3.14159265}, drawing))
    demo(id="breaks")(lambda: 1 / 0)
    about = {"code": "", "commit": "", "versions": {"torch": "2"}}
    found = {name: {**demos.results(name), **about} for name in ("works", "breaks")}
    assert found["works"]["figures"] == {"pi": 3.14159}
    assert found["breaks"]["failed"] == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not store.stale("works", {**found["works"], "code": store.code(found["works"]["files"])}, ["ring8"], STEPS)
    page = Page(render(found))
    assert "pi 3.142" in page
    assert "failed: ZeroDivisionError" in page
    assert page.tags.count("img") == 1
    assert not page.ranking


# -- the committed gallery --------------------------------------------------------------------------------------------------

COMMITTED = ROOT / "docs" / "gallery"


def test_the_committed_page_is_that_of_the_committed_results():
    html = COMMITTED.with_suffix(".html").read_text(encoding="utf-8")
    page, found = Page(html), store.read(COMMITTED)
    shown = [result for result in found.values() if "figures" in result]
    results = {name: result for name, result in found.items() if "figures" not in result}
    agrees(page, results)
    assert [row.recipe for row in ranked(results)] == list(page.ranking)
    runs = [run for result in results.values() for run in result["runs"].values()]
    assert page.tags.count("img") == sum("picture" in part for part in (*runs, *shown)) > 30
    assert len(re.findall('class="made"', html)) == sum("points" in run for run in runs) > 30
    for result in shown:
        assert all(f"{name} {number(value)}" in page for name, value in result["figures"].items()), result["recipe"]
    assert not [part["failed"] for part in (*runs, *shown) if "failed" in part]


def test_the_committed_gallery_is_small():
    assert sum(path.stat().st_size for path in (*COMMITTED.glob("*.json"), COMMITTED.with_suffix(".html"))) < 2.5e6


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_a_browser_sorts_the_table(tmp_path, tiny):
    html = tiny.with_name("small.html").read_text()
    click = "<script>heads[heads.findIndex(h => h.textContent === 'ms, ring8')].firstChild.click();</script></body>"
    (tmp_path / "page.html").write_text(html.replace("</body>", click))
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run([BROWSER, *flags, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    assert re.findall(r'<th [^>]*aria-sort="(\w+)"[^>]*><button type="button">([^<]*)', done.stdout) == [("ascending", "ms, ring8")]
    order = re.findall(r'<th scope="row"><a href="#(.*?)">', done.stdout)
    assert order == ["gan-ns", "lr-gan"]  # lr-gan has no figure there, whoever ranks first
