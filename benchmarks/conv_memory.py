"""Memory of a generator's forward and backward pass: what is held for backward, and the peak, in a fresh process."""

import json
import sys
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from gancore.benchmarks import conv_cases, peak
from gancore.benchmarks.conv_cases import Body, Case

_SMALL = 2


def held(body: Body) -> int:
    """Bytes that autograd keeps after the forward pass: saved tensors, each storage once, parameters excluded."""
    own = {p.untyped_storage().data_ptr() for p in body.parameters.values()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        # Of the tensor itself a result would hold itself for good.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = body.forward()
    # As long as the result lives, no saved storage is freed and its address taken again.
    del result
    return sum(found.values())


def measured(case: Case, name: str) -> dict[str, float] | None:
    """Of a fresh process, in 10^6 bytes: `held`, as above; `level`, by how much it has grown after a forward pass; `peak`, the most
    that it has beyond what it had before a forward and backward pass. None if it failed."""
    return peak.child("gancore.benchmarks.conv_memory", [json.dumps(asdict(case)), name])


def measure(case: Case, name: str) -> dict[str, float]:
    """The same in this process, which should have done nothing else."""
    # Libraries and thread pools load at a first call: at a small one they cost no memory of this size.
    conv_cases.body(replace(case, batch=_SMALL), name)()
    body = Body(case, name)
    if name.endswith("-compiled"):
        body()
    before = peak.level()
    results = body()
    most = peak.highest() - before
    del results
    before = peak.level()
    y = body.forward()
    after = peak.level() - before
    del y
    return {name: round(size / 1e6, 3) for name, size in (("held", held(body)), ("level", after), ("peak", most))}


def main(words: list[str]) -> dict[str, Any]:
    """What the child process prints."""
    return dict(measure(Case(**json.loads(words[0])), words[1]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
