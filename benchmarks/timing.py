"""Times of several bodies that do the same work, taken in turns in one process, and what each takes relative to one of them.

On a GPU a turn lies between two events of its stream and starts with a second-level cache that holds other data. Where bodies can
be made anew (`compare`'s fresh) several copies of each take turns too, so that calls within a turn find no inputs in the cache and
no address is special; and what a captured CUDA graph takes, without the time of launches, is told next to the eager time.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from statistics import median, quantiles
from typing import Any

import torch

# Threads of one library's pool spin for a while after its last loop; the next body must not share its cores with them.
PAUSE = 0.02
# A CUDA graph of the compiler is recorded by the second call and replayed from the third on.
_COMPILED, _WARM = ("compiled", "tuned"), 2
_COPIES = 32  # the most of one body's: inputs so small are launched for longer than they are read
_REPLAYS = 0.25  # of a body's seconds, for its graph


_ON_CPU = ContextVar("on_cpu", default=False)


def on_gpu() -> bool:
    """Whether clocks and counts of memory are a GPU's: there is one, and the benchmark was not asked for the CPU."""
    return torch.cuda.is_available() and not _ON_CPU.get()


@contextmanager
def on(device: str) -> Iterator[None]:
    """Measure on that device: "cpu" where a GPU shall have no part in it."""
    token = _ON_CPU.set(device == "cpu")
    try:
        yield
    finally:
        _ON_CPU.reset(token)


def alternate(
    bodies: Mapping[str, Callable[[], Any]], base: str, seconds: float, rounds: tuple[int, int] = (5, 100)
) -> dict[str, dict[str, Any]]:
    """For each body: median `ms`, its `quartiles`, `ratio` to `base` (median of the ratios within a round), and `rounds`.

    bodies: called without arguments, warmed up by the caller. base: the body that others are compared with; it plays every round.
    seconds: what one body may spend; beyond it a body plays no more rounds, yet at least rounds[0] and at most rounds[1].
    """
    fewest, most = rounds
    times: dict[str, list[float]] = {name: [] for name in bodies}
    for turn in range(most):
        playing = [name for name, spent in times.items() if turn < fewest or sum(spent) < seconds]
        if not playing:
            break
        playing = [name for name in bodies if name in playing or name == base]
        # Who goes first alternates: a drift of the machine within a round favours nobody.
        for name in playing if turn % 2 else playing[::-1]:
            times[name].append(once(bodies[name]))
    return {name: summary(spent, times[base]) for name, spent in times.items()}


def compare(
    names: Sequence[str], body: Callable[[str], Callable[[], Any]], check: Callable[[str, Any], dict[str, float]], seconds: float,
    left_out: dict[str, str], rounds: tuple[int, int], repeats: Callable[[float], int] | None = None, fresh: bool = False,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """`alternate` of the bodies that `body` makes, warmed up, with what `check` says of each one's result, which may raise.

    A peer of "ours" that stops with an error goes to left_out. repeats: how often a body is called in one turn, from the seconds
    that "ours" takes. fresh: every call of `body` makes inputs anew, and a body may be captured: on a GPU copies of each body take
    turns, and a row has a `graph` of the same figures from replays, or the reason why there is none as `no_graph`.
    """
    settle()
    runs, errors, copies = {}, {}, 0
    for name in names:
        try:
            before = _allocated()
            run = body(name)
            copies = copies or (rotation(_allocated() - before, _cache()) if fresh else 1)
            start = time.perf_counter()
            found = run()
            first = time.perf_counter() - start
            turns = [run, *(body(name) for _ in range(copies - 1))]
            for another in turns[1:]:
                another()
        except Exception as error:
            if name == "ours":
                raise
            left_out[name] = f"stopped with {said(error)}"
            continue
        errors[name] = check(name, found)
        del found
        # Seconds of a slow eager body are as warm as they get; those of a compiled one were spent on compiling.
        for _, run in itertools.product(range(_WARM if name.endswith(_COMPILED) else first < 1), turns):
            run()
        runs[name] = rotated(turns)
    number = repeats(once(runs["ours"])) if repeats and "ours" in runs else 1
    times = _turns(runs, number, seconds, rounds)
    if fresh and _cache():
        _replay(runs, times, check, -(-number // copies) * copies, _REPLAYS * seconds, rounds)
    return {name: {**times[name], **errors[name]} for name in runs}


def rotation(held: int, cache: int) -> int:
    """How many bodies with `held` bytes of inputs each take turns before a cache of that many bytes: enough that it holds none
    of them by the time it comes round again, two at least. One without a cache to mind or inputs to tell apart."""
    return min(_COPIES, max(2, -(-2 * cache // held))) if cache and held > 0 else 1


def rotated(runs: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """A call of which runs the next of these, round and round."""
    if len(runs) == 1:
        return runs[0]
    turn = itertools.cycle(runs)
    return lambda: next(turn)()


def captured(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """A replay of the work that a call puts on the GPU, and where it leaves the call's result. Raises what stands in the way."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # workspaces that libraries keep by stream are not for a graph to own
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        found = run()
    return graph.replay, found


def _replay(
    runs: Mapping[str, Callable[[], Any]], times: dict[str, dict[str, Any]], check: Callable[[str, Any], dict[str, float]],
    number: int, seconds: float, rounds: tuple[int, int],
) -> None:  # fmt: skip
    """Adds `graph` or `no_graph` to the rows: times by graphs of `number` calls each. After all that is eager: a capture that fails
    may leave the allocator and random numbers otherwise than before."""
    graphs = {}
    for name, run in runs.items():
        if name.endswith("tuned"):
            times[name]["no_graph"] = "replays a graph of its own"
            continue
        try:
            replay, found = captured(functools.partial(_several, run, number))
            replay()
            check(name, found)
            graphs[name] = replay
        except Exception as error:
            times[name]["no_graph"] = said(error)
    if not graphs:
        return
    base = "ours" if "ours" in graphs else next(iter(graphs))
    for name, row in _scaled(alternate(graphs, base, seconds, rounds), number).items():
        times[name]["graph"] = row if base == "ours" else {key: row[key] for key in ("ms", "quartiles", "rounds")}


def _turns(
    runs: Mapping[str, Callable[[], Any]], number: int, seconds: float, rounds: tuple[int, int]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    playing = {name: functools.partial(_several, run, number) for name, run in runs.items()} if number > 1 else runs
    return _scaled(alternate(playing, "ours", seconds, rounds), number)


def _scaled(times: dict[str, dict[str, Any]], number: int) -> dict[str, dict[str, Any]]:
    """The rows of turns of `number` calls, as those of one call."""
    for row in times.values():
        row |= {"ms": _short(row["ms"] / number), "quartiles": [_short(t / number) for t in row["quartiles"]]}
    return times


def said(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['nothing said'])[0]}"


def settle() -> None:
    """Bring the C library's allocator where a long run has it: until it has freed a large block it gives memory back to the system
    at once, and what is measured is page faults."""
    torch.empty(31 << 20, dtype=torch.uint8)


def _several(run: Callable[[], Any], number: int) -> Any:
    """The last of the results."""
    found = None
    for _ in range(number):
        found = None  # before the next one is made
        found = run()
    return found


def once(body: Callable[[], Any]) -> float:
    """Seconds of one call; on a GPU those between two events of its stream, with a second-level cache that holds other data."""
    if on_gpu():
        _evict()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        body()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3
    time.sleep(PAUSE)
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def _cache() -> int:
    """Bytes of a GPU's second-level cache; 0 without a GPU."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size if on_gpu() else 0


def _allocated() -> int:
    return torch.cuda.memory_allocated() if on_gpu() else 0


@functools.cache
def _scratch() -> torch.Tensor:
    return torch.empty(max(2 * _cache(), 1 << 20), dtype=torch.uint8, device="cuda")


def _evict() -> None:
    _scratch().zero_()
    torch.cuda.synchronize()


def summary(spent: list[float], base: list[float]) -> dict[str, Any]:
    """Medians and quartiles of one body's rounds, which are the first ones of `base`."""
    ratios = [own / other for own, other in zip(spent, base, strict=False)]
    return {
        "ms": _short(1e3 * median(spent)),
        "quartiles": [_short(1e3 * t) for t in _quartiles(spent)],
        "ratio": _short(median(ratios)),
        "ratio_quartiles": [_short(r) for r in _quartiles(ratios)],
        "rounds": len(spent),
    }


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def _short(value: float) -> float:
    return float(f"{value:.5g}")
