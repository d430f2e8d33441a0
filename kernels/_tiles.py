"""The tiles of Triton kernels that were measured: by device, kernel, type and class of shapes, in a table of the package.

A tile is how much of the work one program takes, by how many warps and in how deep a pipeline. Every kernel chooses it by a
heuristic of its own, which serves wherever the table has no entry; benchmarks/tune.py writes those that were measured faster.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

Tile = Mapping[str, int]
Sizes = TypeVar("Sizes", bound=Any)  # a NamedTuple that has a tile's fields
TABLE = Path(__file__).with_name("_tiles.json")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Block(NamedTuple):
    """The tile of a kernel that goes over elements."""

    elements: int
    warps: int


class Asked(NamedTuple):
    """Which kernel asked for a tile, and the one of its heuristic."""

    kernel: "Tiled"
    usual: dict[str, int]


def span(value: int) -> int:
    """The class of a size: the next power of two; 0, 1 and 2 are their own."""
    return value if value < 3 else 1 << (value - 1).bit_length()


@dataclass(frozen=True, eq=False)
class Tiled:
    """A kernel whose tile is looked up.

    shape: what a class of shapes is made of. choices: the values that each field of a tile may take; others stay the heuristic's.
    fits: whether a tile, for elements of so many bytes, is within the kernel's budget of registers and shared memory. The budget
    holds for every variant of the kernel: an entry serves calls that differ in more than their class.
    """

    name: str
    shape: tuple[str, ...]
    choices: Mapping[str, tuple[int, ...]]
    fits: Callable[[Tile, int], bool]

    def candidates(self, size: int) -> list[dict[str, int]]:
        """All tiles that may stand in the table, for elements of so many bytes."""
        tiles = (dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values()))
        return [tile for tile in tiles if self.fits(tile, size)]

    def of(self, like: Tensor, usual: Sizes, *shape: int | str) -> Sizes:
        """The sizes to launch for tensors like this one: usual, the heuristic's, with the table's tile if there is one."""
        rows = _ROWS.get(device_of(like.device))
        if not rows and _asked is None:
            return usual
        key = self.key(like.dtype, *shape)
        if _asked is not None:
            _asked[key] = Asked(self, {field: getattr(usual, field) for field in self.choices})
        tile = rows.get(key) if rows else None
        return usual if tile is None else usual._replace(**tile)

    @functools.lru_cache(1 << 12)  # noqa: B019 (there are as many as kernels, and they stay)
    def key(self, dtype: torch.dtype, *shape: int | str) -> str:
        """The entry of the table for this shape."""
        classes = (f"{name}={span(n) if isinstance(n, int) else n}" for name, n in zip(self.shape, shape, strict=True))
        return f"{self.name}/{str(dtype).removeprefix('torch.')}/{' '.join(classes)}"


KERNELS: dict[str, Tiled] = {}
_asked: dict[str, Asked] | None = None


def tiled(name: str, shape: tuple[str, ...], fits: Callable[[Tile, int], bool], **choices: tuple[int, ...]) -> Tiled:
    """A kernel with tiles to choose from, known to the tuner and to the check of the table by its name."""
    assert name not in KERNELS, name
    KERNELS[name] = Tiled(name, shape, choices, fits)
    return KERNELS[name]


def blocks(name: str, *shape: str) -> Tiled:
    """A kernel that goes over elements, of which a thread takes 4 to 32 at a time."""
    fits = lambda tile, size: 4 <= tile["elements"] // (32 * tile["warps"]) <= 32
    return tiled(name, shape, fits, elements=(512, 1024, 2048, 4096, 8192), warps=(4, 8))


@functools.cache
def device_of(device: torch.device) -> str:
    """The name of a device in the table; on a CPU only the interpreter runs kernels."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check(table: Any) -> dict[str, Any]:
    """The table, if it is one: {device: {"measured": {...}, "tiles": {"kernel/type/class": tile}}}.

    Raises ValueError that names the entry and what it should be. Import the operators first, which make their kernels known.
    """
    if not isinstance(table, dict):
        raise ValueError(f"tiles: got {type(table).__name__}, wants a table by device")
    for device, found in table.items():
        if not isinstance(found, dict) or found.keys() != {"measured", "tiles"} or not isinstance(found["tiles"], dict):
            raise ValueError(f"tiles of {device!r}: wants 'measured' and 'tiles'")
        for key, tile in found["tiles"].items():
            if problem := _problem(key, tile):
                raise ValueError(f"tiles of {device!r}: {key!r}: {problem}")
    return table


def _problem(key: str, tile: Any) -> str | None:
    name, dtype, shape = (*key.split("/"), "", "")[:3]
    kernel = KERNELS.get(name)
    if kernel is None:
        return f"there is no kernel {name!r}; there are {', '.join(KERNELS)}"
    if dtype not in BYTES:
        return f"the type is {dtype!r}, wants one of {', '.join(BYTES)}"
    parts = [part.partition("=") for part in shape.split(" ")]
    if key.count("/") != 2 or tuple(name for name, _, _ in parts) != kernel.shape:
        return f"wants a class of {', '.join(kernel.shape)}"
    if wrong := next((value for _, _, value in parts if value.isdigit() and int(value) != span(int(value))), None):
        return f"{wrong} is no class of sizes, wants a power of two"
    if tile not in kernel.candidates(BYTES[dtype]):
        return f"{tile} is no candidate of this kernel"
    return None


@contextmanager
def using(device: str, tiles: Mapping[str, Tile]) -> Iterator[None]:
    """These entries stand in the place of all that the table has of the device. For the tuner and for tests: the table is that of
    the process, since autograd calls kernels from threads of its own."""
    kept = _ROWS.get(device)
    _ROWS[device] = tiles
    try:
        yield
    finally:
        if kept is None:
            del _ROWS[device]
        else:
            _ROWS[device] = kept


@contextmanager
def asked() -> Iterator[dict[str, Asked]]:
    """What is looked up meanwhile, by its key."""
    global _asked
    kept, _asked = _asked, {}
    try:
        yield _asked
    finally:
        _asked = kept


# Read here, not at a first use: that may be inside torch.compile, which traces into the reading.
_ROWS: dict[str, Mapping[str, Tile]] = {device: found["tiles"] for device, found in json.loads(TABLE.read_text()).items()}
