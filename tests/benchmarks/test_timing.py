"""The clock of the benchmarks on a GPU, with stand-ins for it: copies in turn, graphs and their reasons. No time is asserted."""

import itertools
import subprocess
from contextlib import nullcontext

import pytest
import torch

from gancore.benchmarks import peak, timing
from gancore.benchmarks.cases import Refused


@pytest.mark.parametrize(
    ("held", "cache", "copies"),
    [(0, 1000, 1), (-5, 1000, 1), (400, 0, 1), (400, 1000, 5), (401, 1000, 5), (2000, 1000, 2), (9000, 1000, 2), (1, 1000, 32)],
)
def test_copies_are_enough_for_the_cache_and_two_at_least(held: int, cache: int, copies: int):
    assert timing.rotation(held, cache) == copies


class Work:
    """Bodies by name, each made with `bytes` of inputs, and who was called."""

    def __init__(self, broken: int = -1) -> None:
        self.bytes, self.held, self.broken = 500, 0, broken
        self.made, self.called, self.captured = [], [], []

    def body(self, name):
        self.held += self.bytes
        number = self.made.count(name)
        if number == self.broken:
            raise MemoryError("no room for another")
        self.made.append(name)
        return lambda: self.called.append((name, number)) or name


@pytest.fixture
def gpu(monkeypatch):
    """A clock that counts calls, a cache of 1,000 bytes, and graphs that call the body again, save that of "syncs"."""
    work = Work()
    monkeypatch.setattr(timing, "_cache", lambda: 1000)
    monkeypatch.setattr(timing, "_allocated", lambda: work.held)

    def once(body):
        start = len(work.called)
        body()
        return 1e-3 * (len(work.called) - start)

    def captured(run):
        if run.args[0]() == "syncs":
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        work.captured.append(run.args[1])
        return run, run()

    monkeypatch.setattr(timing, "once", once)
    monkeypatch.setattr(timing, "captured", captured)
    return work


def compare(work, *names, check=lambda name, found: {}, repeats=None, fresh=True):
    left_out: dict[str, str] = {}
    found = timing.compare(names, work.body, check, 1.0, left_out, (3, 8), repeats, fresh)
    return found, left_out


def test_copies_take_turns(gpu):
    found, _ = compare(gpu, "ours", "eager", repeats=lambda seconds: 6)
    assert gpu.made == ["ours"] * 4 + ["eager"] * 4
    order = [number for name, number in gpu.called if name == "eager"]
    assert {order[i + 1] - order[i] for i in range(8, 40)} == {1, -3}
    assert gpu.captured == [8, 8]  # calls, for the six of an eager turn: all copies as often
    assert [found["eager"][key] for key in ("ms", "ratio", "rounds")] == [1, 1, 8]
    assert [found["eager"]["graph"][key] for key in ("ms", "ratio", "rounds")] == [1, 1, 8]


def test_one_copy_where_bodies_share_their_inputs(gpu):
    found, _ = compare(gpu, "ours", "eager", fresh=False)
    assert gpu.made == ["ours", "eager"]
    assert not any("graph" in key for row in found.values() for key in row)


def test_one_copy_and_no_graph_without_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(timing, "_cache", lambda: 0)
    monkeypatch.setattr(timing, "captured", None)
    found, _ = compare(gpu, "ours", "eager")
    assert gpu.made == ["ours", "eager"]
    assert found["ours"].keys() == {"ms", "quartiles", "ratio", "ratio_quartiles", "rounds"}


def test_without_a_graph_the_reason_is_told(gpu):
    found, _ = compare(gpu, "ours", "syncs", "tuned")
    assert found["syncs"]["no_graph"] == "RuntimeError: operation not permitted when stream is capturing"
    assert found["tuned"]["no_graph"] == "replays a graph of its own"
    assert "graph" not in found["syncs"]
    assert found["ours"]["graph"]["ms"] == 1
    assert all(found[name]["ms"] == 1 for name in found)


def test_without_a_graph_of_ours_nothing_is_relative(gpu, monkeypatch):
    captured = timing.captured
    monkeypatch.setattr(timing, "captured", lambda run: captured(run) if run.args[0]() != "ours" else captured(None))
    found, _ = compare(gpu, "ours", "eager")
    assert "no_graph" in found["ours"]
    assert found["eager"]["graph"].keys() == {"ms", "quartiles", "rounds"}


def test_what_a_replay_leaves_is_checked(gpu):
    seen = itertools.count()

    def check(name, found):
        if next(seen) == 2:  # the first replay
            raise Refused("gancore is off")
        return {"error": 0.0}

    found, _ = compare(gpu, "ours", "eager", check=check)
    assert found["ours"]["no_graph"] == "Refused: gancore is off"
    assert "graph" in found["eager"]


def test_a_peer_whose_copies_do_not_fit_is_left_out(gpu):
    gpu.broken = 2
    with pytest.raises(MemoryError):
        compare(gpu, "ours")
    gpu.made, gpu.broken = ["ours"] * 9, -1
    body = gpu.body

    def some(name):
        if name == "eager" and gpu.made.count(name) == 2:
            raise MemoryError("no room for another")
        return body(name)

    gpu.body = some
    found, left_out = compare(gpu, "ours", "eager")
    assert left_out == {"eager": "stopped with MemoryError: no room for another"}
    assert list(found) == ["ours"]


@pytest.mark.gpu
def test_on_a_gpu_a_graph_replays_the_work():
    x = torch.zeros(1 << 20, device="cuda")
    replay, found = timing.captured(lambda: x.add_(1))
    before = float(x[0])
    replay()
    assert float(found[0]) == before + 1
    made = []

    def body(name):
        made.append(torch.ones(1 << 20, device="cuda"))
        return lambda t=made[-1]: t.item() if name == "syncs" else t * 2

    rows = timing.compare(("ours", "syncs"), body, lambda *_: {}, 0.01, {}, (2, 4), None, fresh=True)
    assert len(made) == 2 * timing.rotation(4 << 20, timing._cache())
    assert rows["ours"]["graph"]["ms"] > 0
    assert "no_graph" in rows["syncs"]
    torch.cuda.synchronize()


def test_asked_for_the_cpu_a_benchmark_leaves_a_gpu_alone(monkeypatch):
    def touched(*arguments):
        raise AssertionError("the GPU was asked")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("memory_allocated", "synchronize", "reset_peak_memory_stats", "get_device_properties", "Event"):
        monkeypatch.setattr(torch.cuda, name, touched)
    clocks = (timing._cache, timing._allocated, peak.level, lambda: timing.once(int))
    for device, clock in itertools.product(("cuda", "cpu"), clocks):
        with timing.on(device), pytest.raises(AssertionError) if device == "cuda" else nullcontext():
            clock()


def test_children_see_a_gpu_where_it_is_measured(monkeypatch):
    seen = []

    def run(command, env, **settings):
        seen.append(env.get("CUDA_VISIBLE_DEVICES"))
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(subprocess, "run", run)
    for device in ("cpu", "cuda"):
        with timing.on(device):
            assert peak.child("none", []) is None
    assert seen == ["", None]
