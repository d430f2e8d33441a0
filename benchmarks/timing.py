"""Times of several bodies that do the same work, taken in turns in one process, and what each takes relative to one of them."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any

import torch

# Threads of one library's pool spin for a while after its last loop; the next body must not share its cores with them.
PAUSE = 0.02
# A CUDA graph of the compiler is recorded by the second call and replayed from the third on.
_COMPILED, _WARM = ("compiled", "tuned"), 2


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
    left_out: dict[str, str], rounds: tuple[int, int], repeats: Callable[[float], int] | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """`alternate` of the bodies that `body` makes, warmed up, with what `check` says of each one's result, which may raise.

    A peer of "ours" that stops with an error goes to left_out. repeats: how often a body is called in one turn, from the seconds
    that "ours" takes.
    """
    settle()
    runs, errors = {}, {}
    for name in names:
        try:
            run = body(name)
            start = time.perf_counter()
            found = run()
            first = time.perf_counter() - start
        except Exception as error:
            if name == "ours":
                raise
            left_out[name] = f"stopped with {type(error).__name__}: {(str(error).strip().splitlines() or ['nothing said'])[0]}"
            continue
        errors[name] = check(name, found)
        del found
        # Seconds of a slow eager body are as warm as they get; those of a compiled one were spent on compiling.
        for _ in range(_WARM if name.endswith(_COMPILED) else first < 1):
            run()
        runs[name] = run
    number = repeats(once(runs["ours"])) if repeats and "ours" in runs else 1
    playing = {name: functools.partial(_several, run, number) for name, run in runs.items()} if number > 1 else runs
    times = alternate(playing, "ours", seconds, rounds)
    for row in times.values():
        row |= {"ms": _short(row["ms"] / number), "quartiles": [_short(t / number) for t in row["quartiles"]]}
    return {name: {**times[name], **errors[name]} for name in runs}


def settle() -> None:
    """Bring the C library's allocator where a long run has it: until it has freed a large block it gives memory back to the system
    at once, and what is measured is page faults."""
    torch.empty(31 << 20, dtype=torch.uint8)


def _several(run: Callable[[], Any], number: int) -> None:
    for _ in range(number):
        run()


def once(body: Callable[[], Any]) -> float:
    """Seconds of one call; on a GPU those between two events of its stream, with a second-level cache that holds other data."""
    time.sleep(PAUSE)
    if torch.cuda.is_available():
        _evict()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        body()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


@functools.cache
def _scratch() -> torch.Tensor:
    size = 2 * torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return torch.empty(max(size, 1 << 20), dtype=torch.uint8, device="cuda")


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
