"""What a figure or a run depends on beyond its options: versions, device, commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from gancore import __version__
from gancore.core import UsageError

_PACKAGES = ("triton", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape results; "absent" for what is not installed."""
    found = {"python": platform.python_version(), "gancore": __version__, "torch": torch.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def commit() -> str:
    """Commit of the checkout that gancore is imported from; "" outside a checkout.

    "-dirty" is appended where anything but result files is changed: what writes several of them would call its own output a change.
    """
    here = Path(__file__).resolve()
    root, changed = here.parents[1], [":/", ":(exclude,top)benchmarks/results", ":(exclude,top)tests/accept/results"]
    try:
        if _git(root, "ls-files", "--error-unmatch", str(here)) is None:
            return ""
        name, status = _git(root, "rev-parse", "--short=12", "HEAD"), _git(root, "status", "--porcelain", "-uno", "--", *changed)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{name}-dirty" if status else name or ""


def _git(root: Path, *command: str) -> str | None:
    """What git says; None where it fails."""
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10)
    return None if done.returncode else done.stdout.strip()


def pick_device(name: str) -> torch.device:
    """The device that "auto" means here, or the named one. Raises UsageError where it does not exist."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:<number>, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} was asked for, but PyTorch finds {torch.cuda.device_count()} CUDA devices here")
    return device


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return f"{model or platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"
