"""Results of the gallery as files, <folder>/<recipe>.json, and which of them are older than what they came from.

A result holds the files of gancore that its run imported and one hash of their code, so that a change renews what depends on it
and nothing else.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import gancore
from gancore import environment
from gancore.checkpoint import OutputError, write_atomic
from gancore.core import DataError
from gancore.gallery import protocol
from gancore.recipes import get

PACKAGE = Path(gancore.__file__).parent
Result = dict[str, Any]


@cache
def digest(name: str) -> str:
    """SHA-256 of the syntax tree of a file inside the package, docstrings left out: a comment makes no result stale."""
    path = PACKAGE / name
    if not path.is_file():
        return "missing"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def code(files: Sequence[str]) -> str:
    """One hash of several files' digests."""
    return hashlib.sha256(json.dumps({name: digest(name) for name in files}).encode()).hexdigest()[:16]


def read(folder: Path) -> dict[str, Result]:
    """The results in a folder by recipe. Raises DataError for a file that is damaged."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            if found[path.stem]["recipe"] != path.stem:
                raise ValueError(f"it is the result of {found[path.stem]['recipe']!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}") from error
    return found


def stale(name: str, result: Result | None, sets: Sequence[str], steps: int = 0) -> bool:
    """Whether a result is missing, older than its code, or of other data sets, options or settings than are asked for."""
    if result is None or not result["files"] or result["code"] != code(result["files"]):
        return True
    entry = get(name)
    wanted = {data: protocol.arguments(entry, data, steps) for data in sets} if entry.kind == "recipe" else {}
    return json.loads(json.dumps(wanted)) != {data: run["arguments"] for data, run in result["runs"].items()}


def refresh(
    names: Sequence[str], folder: Path, sets: Sequence[str], steps: int = 0, jobs: int = 1, tell: Callable[[Result], None] = print
) -> None:
    """Run recipes and demonstrations, `jobs` at a time, each in a process of its own on one thread; write each result as it comes.

    Raises OutputError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    # Taken before anything runs: code that is changed meanwhile makes a result stale, and results are no change of the checkout.
    for path in files():
        digest(path)
    about = {"commit": environment.commit(), "versions": environment.versions()}
    pool = ThreadPoolExecutor(jobs)
    try:
        pending = [pool.submit(apart, name, list(sets), steps) for name in names]
        for done in as_completed(pending):
            found = done.result()
            result = {**found, **about, "code": code(found["files"])}
            text = json.dumps(result, separators=(",", ":")) + "\n"
            write_atomic(folder / f"{result['recipe']}.json", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
            tell(result)
    finally:
        pool.shutdown(cancel_futures=True)


def files() -> list[str]:
    """Every Python file of the package, links to the operators' folder followed."""
    found = (Path(folder) / name for folder, _, names in os.walk(PACKAGE, followlinks=True) for name in names)
    return sorted(str(path.relative_to(PACKAGE)) for path in found if path.suffix == ".py")


def apart(name: str, sets: list[str], steps: int = 0) -> Result:
    """The result of a recipe or a demonstration from a process of its own; of a process that dies, how it ended."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gancore.gallery", json.dumps({"name": name, "sets": sets, "steps": steps})]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    told = (done.stderr.strip().splitlines() or ["no message"])[-1]
    failed, entry, lost = {"failed": f"the process ended with {done.returncode}: {told}"}, get(name), {"machine": "", "files": []}
    if entry.kind == "demo":
        return {"recipe": name, **lost, "runs": {}, "figures": {}, **failed}
    ended = {data: {"arguments": protocol.arguments(entry, data, steps), **failed} for data in sets}
    return {"recipe": name, **lost, "runs": ended}
