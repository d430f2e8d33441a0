"""Result files: where they lie, what they say of the machine, and how one is written row by row."""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gancore import environment
from gancore.core import DataError, GancoreError

ROOT = Path(__file__).resolve().parent.parent


def path_of(name: str, device: str) -> Path:
    """The result file of a benchmark on this kind of device: in a checkout the committed one, elsewhere in the working folder."""
    return (ROOT / "benchmarks/results" if (ROOT / "pyproject.toml").is_file() else Path()) / f"{name}-{device}.json"


def load(name: str, path: Path) -> dict[str, Any]:
    """A result file of the benchmark. Raises DataError where there is none or it is not one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(found["rows"], list):
            raise ValueError("no rows")
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}: measure it with gancore bench {name}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of gancore bench {name}: {error}") from error
    return found


def about(device: torch.device, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Device, threads, versions (of these packages too) and commit of a measurement."""
    versions = environment.versions()
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "device": environment.describe(device),
        "cpu": environment.describe(torch.device("cpu")).rpartition(",")[0],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "commit": environment.commit(),
    }


def measured(
    name: str, path: Path | None, order: Sequence[str], asked: Sequence[str],
    measure: Callable[[str], dict[str, Any]], head: Callable[[], dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The result of the rows `asked`, others kept from the file, in `order`; written after each row: what was measured is kept
    when a later row is interrupted."""
    old = load(name, path)["rows"] if list(asked) != list(order) and path and path.exists() else []
    found = {row["row"]: row for row in old}
    result: dict[str, Any] = {}
    for row in asked:
        found[row] = measure(row)
        result = {**head(), "rows": [found[r] for r in order if r in found]}
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def refuse(refused: Sequence[str]) -> None:
    """Raise GancoreError where bodies were found to be wrong."""
    if refused:
        raise GancoreError(f"refused: {refused[0]}" + (f", and {len(refused) - 1} more" if refused[1:] else ""))
