"""Walks every SPEC: the parametrisations and inputs of the contract test."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from gancore.kernels import _native, _triton
from gancore.kernels._spec import Sample, Spec, specs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPECS = specs()


def draw(sample: Sample, dtype: torch.dtype, device: torch.device = DEVICE, seed: int = 0) -> dict[str, Tensor]:
    tensors = sample.draw(Generator().manual_seed(seed))
    return {n: t.to(device, dtype if t.is_floating_point() else t.dtype) for n, t in tensors.items()}


def place(impl: str) -> torch.device:
    """The device to test a body on; skips where it cannot run."""
    device = torch.device("cpu") if impl == "native" else DEVICE
    reason = {"native": _native.missing, "triton": _triton.missing}.get(impl, lambda device: None)(device)
    if reason:
        pytest.skip(reason)
    return device


def rows(*impls: str, samples: int | None = None) -> Iterator[Any]:
    """(spec, body, sample) for every body of every operator, or of the first samples alone."""
    for spec in SPECS.values():
        for impl in (*spec.dtypes, "reference"):
            if not impls or impl in impls:
                for sample in spec.samples[:samples]:
                    yield pytest.param(spec, impl, sample, id=f"{spec.name}-{impl}-{sample.name}")


def each(*impls: str, samples: int | None = None) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("spec", "impl", "sample"), list(rows(*impls, samples=samples)))


def bodies() -> pytest.MarkDecorator:
    """(spec, body) for every kernel."""
    found = [pytest.param(s, impl, id=f"{s.name}-{impl}") for s in SPECS.values() for impl in s.dtypes]
    return pytest.mark.parametrize(("spec", "impl"), found)


def bound(spec: Spec, impl: str) -> Any:
    return lambda **kwargs: spec.fn(**kwargs, impl=impl)
