"""`make accept`: rerun the stale acceptance checks, ACCEPT_WORKERS (2) at a time, one thread each, and print the table.

Results are tests/accept/results/<recipe>.json, with the files that the check imported and a hash of their code. A result is stale
when that hash differs. `python -m tests.accept RECIPE ...` reruns the named ones; `--table` only prints.
"""

import ast
import hashlib
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from tests.accept import LIMIT, SEEDS, at_most

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
CHECKS = ROOT / "tests" / "recipes"
_SOURCES = ("gancore", "kernels", "tests")
_DEVICE = re.compile(r"kernels/(.*/)?(device\w*|kernels|sizes|_triton|_tiles|ahead)\.py")  # a GPU's code, which no check runs
WORKERS = int(os.environ.get("ACCEPT_WORKERS", "2"))


@cache
def digest(name: str) -> str:
    """SHA-256 of a file's syntax tree without docstrings: a comment or a docstring makes nothing stale."""
    path = ROOT / name
    if not path.is_file():
        return "missing"
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def code_hash(digests: dict[str, str]) -> str:
    """One hash for several files' digests."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def recipes() -> list[str]:
    """Recipes that have a check to train for."""
    return sorted(p.stem.removeprefix("test_").replace("_", "-") for p in CHECKS.glob("test_*.py") if "def accept" in p.read_text())


def result(recipe: str) -> dict[str, Any] | None:
    """The committed result of a recipe, None if it has none."""
    path = RESULTS / f"{recipe}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def stale(recipe: str) -> bool:
    """Whether a recipe's result is missing or older than the code it came from."""
    found = result(recipe)
    return found is None or found["hash"] != code_hash({name: digest(name) for name in found["files"]})


def run_here(recipe: str, seed: int) -> dict[str, Any]:
    """Run one check in this process: its clauses, time, and the files it imported."""
    # Taken before anything runs: code that is changed meanwhile makes the result stale.
    digests = {str(path.relative_to(ROOT)): "" for folder in _SOURCES for path in (ROOT / folder).rglob("*.py")}
    digests = {name: digest(name) for name in digests}
    check = importlib.import_module(f"tests.recipes.test_{recipe.replace('-', '_')}")
    start, wall = _cpu(), time.perf_counter()
    clauses = list(check.accept(seed))
    spent = {"cpu": round(_cpu() - start, 1), "wall": round(time.perf_counter() - wall, 1)}
    clauses.append(at_most("processor seconds", spent["cpu"], LIMIT))
    clauses += check.controls(seed) if hasattr(check, "controls") else []
    loaded = {Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
    used = {str(path.relative_to(ROOT)) for path in loaded if path.is_relative_to(ROOT)} - {"tests/accept/__main__.py"}
    used = {name for name in used if not _DEVICE.fullmatch(name)}
    files = {name: found for name, found in digests.items() if name in used}
    return {"clauses": [c.row() for c in clauses], "seconds": spent, "files": files}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_apart(job: tuple[str, int]) -> dict[str, Any]:
    """Run one check in a process of its own, on one thread."""
    recipe, seed = job
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.accept", "--one", recipe, str(seed)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        failed = {"name": "runs", "value": float(done.returncode), "wanted": lines[-1] if lines else "", "passed": False}
        return {"clauses": [failed], "seconds": {"cpu": 0.0, "wall": 0.0}, "files": {}}
    print(f"  {recipe} seed {seed} done", file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def refresh(chosen: list[str]) -> None:
    """Run both seeds of each chosen recipe and write its result."""
    from gancore.environment import commit, versions

    # Ordered by recipe, so that a result is written as soon as both its seeds are in.
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = {recipe: [pool.submit(run_apart, (recipe, seed)) for seed in SEEDS] for recipe in chosen}
        for recipe, pending in jobs.items():
            seeds = dict(zip(map(str, SEEDS), (p.result() for p in pending), strict=True))
            digests = {name: found for s in seeds.values() for name, found in s.pop("files").items()}
            passed = all(c["passed"] for s in seeds.values() for c in s["clauses"])
            record = {"recipe": recipe, "passed": passed, "hash": code_hash(digests), "versions": versions(), "commit": commit()}
            RESULTS.mkdir(exist_ok=True)
            text = json.dumps({**record, "seeds": seeds, "files": sorted(digests)}, indent=1) + "\n"
            (RESULTS / f"{recipe}.json").write_text(text)


def table() -> bool:
    """Print every recipe's clauses; True if all passed and none is stale or missing."""
    good = True
    for recipe in recipes():
        found = result(recipe)
        mark = "missing" if found is None else "stale" if stale(recipe) else "passed" if found["passed"] else "FAILED"
        good &= mark == "passed"
        print(f"{recipe:<18}{mark}")
        for row in zip(*(s["clauses"] for s in found["seeds"].values()), strict=False) if found else ():
            values = "  ".join(f"{c['value']:>10.4g}{' ' if c['passed'] else '!'}" for c in row)
            print(f"    {row[0]['name']:<52}{row[0]['wanted']:>16}  {values}")
    return good


def main(arguments: list[str]) -> int:
    """Entry point; the exit code is 1 while a row fails, is stale or is missing."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(run_here(arguments[1], int(arguments[2]))))
        return 0
    if unknown := sorted({*arguments} - {*recipes(), "--table"}):
        print(f"no acceptance check of {', '.join(unknown)}", file=sys.stderr)
        return 2
    if arguments != ["--table"]:
        refresh(arguments or [recipe for recipe in recipes() if stale(recipe)])
    return 0 if table() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
