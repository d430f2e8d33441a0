"""The fewest bytes that the work on an operator can move: what every body's own bytes are held against."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gancore.kernels._spec import Spec

Given = dict[str, Tensor]


def moved(spec: Spec, tensors: Given, options: Mapping[str, Any], order: int) -> int:
    """Bytes that forward (order 0), with backward (1), with a second backward (2) read and write at least.

    Each pass reads once what its results depend on, and writes its results once: nothing in between is counted, and nothing stays
    in a cache from one pass to the next. Forward is what the SPEC counts. Backward reads inputs and the cotangent of the first
    output, and writes the gradients. The second backward reads these inputs, that cotangent and the cotangents of the gradients,
    and writes the gradients in inputs and cotangent. Whether a result depends on an input is found by changing it: a backward that
    depends on its cotangent alone reads no input. A result of zeros is not written.
    """
    total = spec.bytes_moved(**tensors, **options)
    if order:
        wrt = [n for n, t in tensors.items() if t.is_floating_point()]
        with torch.no_grad():
            y = _output(spec, tensors, options)
        # No constant, under which more would be equal than is.
        above = {"above": torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(y).view_as(y)}
        slopes = _first(spec, options, wrt, {**tensors, **above}, graph=False)
        total += _once(lambda given: _first(spec, options, wrt, given, graph=False), {**tensors, **above}, list(tensors))
        if order == 2:
            others = {f"above {n}": slope for n, slope in slopes.items()}
            total += _once(lambda given: _second(spec, options, wrt, given), {**tensors, **above, **others}, [*tensors, "above"])
    return total


def _once(run: Callable[[Given], Given], given: Given, doubtful: list[str]) -> int:
    """Bytes of one pass. It is linear in what is not doubtful, and reads that."""
    results = run(given)
    read = [t for n, t in given.items() if n not in doubtful or not _same(results, run({**given, n: _other(t)}))]
    return sum(t.nbytes for t in (*read, *results.values()))


def _other(t: Tensor) -> Tensor:
    """Another value of each number, of another sign too where it is small: masks change as well."""
    return 0.7 * t - 0.3 if t.is_floating_point() else t.flip(0)


def _same(a: Given, b: Given) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def _output(spec: Spec, tensors: Given, options: Mapping[str, Any]) -> Tensor:
    found = spec.reference(**tensors, **options)
    return found if isinstance(found, Tensor) else next(t for t in found if isinstance(t, Tensor))


def _first(spec: Spec, options: Mapping[str, Any], wrt: list[str], given: Given, graph: bool) -> Given:
    """The gradients in `wrt`, where there are any."""
    leaves = {n: given[n].detach().requires_grad_(n in wrt) if not graph else given[n] for n in given if not n.startswith("above")}
    y = _output(spec, leaves, options)
    slopes = torch.autograd.grad(y, [leaves[n] for n in wrt], given["above"], create_graph=graph, allow_unused=True)
    return _some(dict(zip(wrt, slopes, strict=True)))


def _second(spec: Spec, options: Mapping[str, Any], wrt: list[str], given: Given) -> Given:
    """The gradients of the gradients in `wrt` and in the cotangent, where there are any."""
    leaves = {n: t.detach().requires_grad_(n in (*wrt, "above")) for n, t in given.items()}
    slopes = {n: t for n, t in _first(spec, options, wrt, leaves, graph=True).items() if t.requires_grad and f"above {n}" in given}
    if not slopes:
        return {}
    after = [*wrt, "above"]
    weights = [given[f"above {n}"] for n in slopes]
    found = torch.autograd.grad(list(slopes.values()), [leaves[n] for n in after], weights, allow_unused=True)
    return _some(dict(zip(after, found, strict=True)))


def _some(found: dict[str, Tensor | None]) -> Given:
    return {n: t for n, t in found.items() if t is not None and bool(t.any())}
