"""Every declared Triton kernel, compiled ahead of time for NVIDIA and AMD GPUs, stays within the budget of its SPEC and never
spills."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gancore.kernels import _triton
from gancore.kernels._spec import specs

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".aot_cache"
FOUR = {"sm_80", "sm_90", "sm_100", "gfx942"}

if not _triton.available:
    pytest.skip("triton is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """What the kernels take; kept on disk under a hash of the sources and of triton's version."""
    import triton

    sources = [*sorted((ROOT / "kernels").glob("**/*.py")), Path(__file__).with_name("aot.py")]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources) + triton.__version__.encode()).hexdigest()
    kept = CACHE / f"{digest[:24]}.json"
    if not kept.is_file():
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run([sys.executable, "tests/kernels/aot.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        CACHE.mkdir(exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(run.stdout.splitlines()[-1])
        part.rename(kept)
    found: list[dict[str, Any]] = json.loads(kept.read_text())
    return found


def over(row: dict[str, Any]) -> str | None:
    """What a kernel takes beyond its budget."""
    for part, most in (*row["budget"].items(), ("spills", 0)):
        if row[part] > most:
            return f"{row['op']} {row['constants']} on {row['target']}: {part} {row[part]}, at most {most}"
    return None


def test_kernels_keep_their_budgets(rows: list[dict[str, Any]]) -> None:
    assert not [problem for row in rows if (problem := over(row))]


def test_every_declared_kernel_was_compiled_everywhere(rows: list[dict[str, Any]]) -> None:
    for spec in specs().values():
        assert ("triton" in spec.dtypes) == bool(spec.ahead()), f"{spec.name} has Triton kernels and declares none"
        for i in range(len(spec.ahead())):
            assert {row["target"] for row in rows if (row["op"], row["kernel"]) == (spec.name, i)} == FOUR
    assert all(row["registers"] > 4 for row in rows), "registers were not read"


def test_kernels_have_the_instructions_they_are_made_for(rows: list[dict[str, Any]]) -> None:
    assert any(ahead.tensor_core for spec in specs().values() for ahead in spec.ahead())
    assert not [row for row in rows if row["missing"]]


@pytest.mark.parametrize(("part", "amount"), [("registers", 512), ("shared", 1 << 20), ("spills", 1)])
def test_a_kernel_over_its_budget_is_found(rows: list[dict[str, Any]], part: str, amount: int) -> None:
    assert part in str(over(rows[0] | {part: amount}))
