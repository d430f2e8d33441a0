"""gancore profile: its phases account for the time, its page names what was made slow, and watching changes no number."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gancore
from gancore import machine
from gancore.profiling import clock, losses, profile, write
from gancore.profiling.counts import Counts
from gancore.profiling.page import render

ROOT = Path(__file__).resolve().parents[2]
TINY = {"data": "digits8", "net": "toy", "batch_size": 16}

SLOW = '''
"""Slow, Nobody 2026, arXiv:2601.00001. A GAN whose critic holds an operator that waits."""
import time
import torch
from torch import nn
from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import adam, recipe

@torch.library.custom_op("gancore_tests::treacle", mutates_args=())
def treacle(x: torch.Tensor) -> torch.Tensor:
    time.sleep(0.03)
    return x.clone()

@treacle.register_fake
def _(x):
    return torch.empty_like(x)

treacle.register_autograd(lambda ctx, dy: dy)

class Slow(nn.Module):
    def __init__(self, critic):
        super().__init__()
        self.critic = critic

    def forward(self, x):
        return treacle(self.critic(x))

def players(spec):
    made = nets.gan(spec)
    return {**made, "D": Slow(made["D"])}

@recipe
def slow_gan(lr: float = 1e-3):
    """lr: Adam's rate."""
    return adversarial(losses.non_saturating, adam(lr), nets=players)
'''


@pytest.fixture(scope="module")
def found():
    return profile("wgan-gp", steps=6, warm=2, **TINY)


def test_phases_sum_to_the_wall_time(found):
    names = {row["phase"] for row in found.facts["phases"]}
    assert {"data", "critic", "generator", "penalty", "backward", "optimiser", "EMA", "logging"} <= names
    total = sum(row["seconds"] for row in found.facts["phases"])
    assert abs(total / found.facts["wall_seconds"] - 1) < 0.03


def test_the_files_hold_what_was_measured(found, tmp_path):
    paths = write(found, tmp_path)
    assert json.loads(paths["profile.json"].read_text())["recipe"] == "wgan-gp"
    assert {e["name"] for e in json.loads(paths["trace.json"].read_text())["traceEvents"]} >= {"phase critic", "phase penalty"}
    rows = list(csv.DictReader(paths["operators.csv"].open()))
    assert {"operator", "share", "bandwidth", "rate"} <= rows[0].keys()
    assert max(rows, key=lambda r: float(r["seconds"])) == rows[0]
    page = paths["profile.html"].read_text()
    assert not re.findall(r"(?:src|href)=.(?!data:)", page)
    assert "https://" not in page
    assert found.facts["losses"][0]["sentence"].split(":")[0] in page


def test_operators_take_no_more_than_the_step(found):
    assert 0 < sum(row["share"] for row in found.facts["operators"]) <= 1.0001
    assert all(row["seconds"] >= 0 for row in found.facts["operators"])
    assert max(bytes for _, bytes in found.facts["memory"]) > 0


def test_a_slowed_operator_is_named_first(tmp_path):
    (tmp_path / "slow_gan.py").write_text(SLOW)
    found = profile(str(tmp_path / "slow_gan.py"), steps=3, warm=1, **TINY)
    first = found.losses[0]
    assert first.kind == "treacle"
    assert first.share > 0.5
    assert "gancore_tests::treacle is an operator of its own" in first.sentence
    assert "treacle" in re.search(r'<ol class="losses">\s*<li>(.*?)</li>', render(found.facts), re.S)[1]


def test_the_command_writes_the_page(tmp_path):
    options = ["--measure", "2", "--data=digits8", "--net=toy", "--batch-size=8", "--out", str(tmp_path / "p")]
    command = [sys.executable, "-m", "gancore", "profile", "wgan-gp", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "penalty" in done.stdout
    assert {p.name for p in (tmp_path / "p").iterdir()} == {
        "profile.html", "profile.json", "trace.json", "phases.csv", "operators.csv",
    }  # fmt: skip


def test_watching_changes_no_number():
    """The same weights after the same steps, and the ranges are off again afterwards."""
    from gancore.kernels import _ranges

    plain = gancore.train("wgan-gp", steps=3, **TINY).trainer
    watched = clock.Watched(plain.recipe, plain.source, plain.options, plain.spec, plain.device)
    with watched.random():
        for _ in range(3):
            watched.step()
    for a, b in zip(plain.nets.parameters(), watched.nets.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not _ranges._on


def test_time_within_a_span_is_the_inner_ones(monkeypatch):
    times = iter([0.0, 1.0, 4.0, 9.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    watch = clock.Clock(torch.device("cpu"))
    with watch.span("outer"), watch.span("inner"):
        pass
    assert watch.read() == {"outer": 1.0 + 5.0, "inner": 3.0}


def test_bytes_and_operations_are_counted():
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    with Counts() as counts:
        torch.conv2d(x, w)
        x.add_(1)
        x.view(-1)
    moved, operations = counts.of("aten::convolution", str([[2, 3, 8, 8], [4, 3, 3, 3]]))
    assert moved == 4 * (x.numel() + w.numel() + 2 * 4 * 36)
    assert operations == 2 * (2 * 4 * 36) * 27
    assert counts.of("aten::add_", str([[2, 3, 8, 8]]))[0] == 2 * 4 * x.numel()
    assert counts.of("aten::view", str([[2, 3, 8, 8]]))[0] == 0


def test_batch_norm_is_named_with_its_layer():
    """A norm that a network calls by itself: its layer, and why it is not fused."""
    found = profile("dcgan", steps=2, warm=1, data="digits", size=16, width=8, batch_size=8)
    norms = [row for row in found.losses if row.kind == "batch norm" and row.layer == "D.tower.norms.1"]
    assert len(norms) == 1
    assert "batch norm traffic in D.tower.norms.1" in norms[0].sentence
    assert "not fused" in norms[0].sentence


def test_the_roofline_is_the_slower_of_both():
    bounds = {"copy": 10.0, "rate": 100.0}
    assert machine.least_seconds(20, 100, bounds) == 2.0
    assert machine.least_seconds(1, 1000, bounds) == 10.0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("aten::native_batch_norm_backward", "batch norm"), ("aten::convolution_backward", "convolution"),
     ("aten::threshold_backward", "ReLU"), ("gancore::bias_act", "bias act"), ("aten::addmm", "matrix product")],
)  # fmt: skip
def test_kinds(name, kind):
    assert losses.kind_of(name) == kind
