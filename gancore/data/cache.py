"""Trained judges on disk, so that each is trained once for each version of its code."""

import hashlib
import inspect
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def folder() -> Path:
    """$XDG_CACHE_HOME/gancore, or ~/.cache/gancore."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gancore"


def cached(name: str, sources: list[ModuleType], build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `build` returns (tensors, numbers, dicts), from disk where the same sources and torch version built it before.

    A file begins with the SHA-256 of the rest; one that is damaged is built again. A folder that cannot be written costs the cache,
    not the result.
    """
    key = hashlib.sha256(torch.__version__.encode())
    for source in sources:
        key.update(inspect.getsource(source).encode())
    path = folder() / f"{name}-{key.hexdigest()[:16]}.pt"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("damaged")
        found: dict[str, Any] = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        return found
    except (OSError, ValueError):
        value = build()
    buffer = io.BytesIO()
    torch.save(value, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
        os.replace(file.name, path)
    except OSError:
        pass
    return value
