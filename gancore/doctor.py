"""What works on this machine and what is missing, with a remedy for each missing part."""

import os
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from gancore import environment

_EXTRAS = {
    "train": ("click", "rich", "pillow", "matplotlib", "scikit-learn", "jinja2", "safetensors"),
    "onnx": ("onnx", "onnxscript"),
}


@dataclass(frozen=True)
class Finding:
    """One part: whether it works, what was found, and how to get what is missing."""

    part: str
    ok: bool
    found: str
    remedy: str = ""


def findings() -> list[Finding]:
    """Everything that gancore can use, present or not."""
    parts = [Finding(name, found != "absent", found) for name, found in environment.versions().items() if name != "triton"]
    return [*parts, *_devices(), _native(), _triton(), _compiler(), _cache(), *_packages()]


def as_dicts() -> list[dict[str, Any]]:
    """The findings as plain values."""
    return [asdict(finding) for finding in findings()]


def _devices() -> list[Finding]:
    cpu = Finding("cpu", True, f"{environment.describe(torch.device('cpu'))}, {torch.backends.cpu.get_cpu_capability()}")
    count = torch.cuda.device_count()
    if count:
        return [cpu, *(Finding(f"cuda:{i}", True, _gpu(i)) for i in range(count))]
    if torch.version.cuda is None and torch.version.hip is None:
        found, remedy = "this torch is built for CPUs", "on a machine with a GPU, install torch as pytorch.org/get-started says"
    else:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {torch.version.hip}"
        found, remedy = f"no GPU is visible to torch, built for {built}", "see nvidia-smi or rocm-smi, and CUDA_VISIBLE_DEVICES"
    return [cpu, Finding("gpu", False, found, f"none is needed; {remedy}")]


def _gpu(index: int) -> str:
    facts = torch.cuda.get_device_properties(index)
    return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}"


def _native() -> Finding:
    from gancore.kernels import _native

    reason = _native.missing(torch.device("cpu"))
    if reason is None:
        return Finding("native kernels", True, "gancore._C is loaded")
    found, _, remedy = reason.partition("; ")
    return Finding("native kernels", False, found, f"operators work without; {remedy}")


def _triton() -> Finding:
    from gancore.kernels import _triton

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = _triton.missing(device)
    if reason is None:
        mode = "interpreted" if _triton.INTERPRETED else "compiled"
        return Finding("triton kernels", True, f"triton {environment.versions()['triton']}, {mode}")
    if not _triton.available:
        return Finding("triton kernels", False, "triton is not installed", "pip install triton (Linux)")
    return Finding("triton kernels", False, "triton is installed, no GPU to run on", "on a CPU operators run native or in PyTorch")


def _compiler() -> Finding:
    wanted = os.environ.get("CXX") or "c++"
    path = shutil.which(wanted) or shutil.which("g++") or shutil.which("clang++")
    if path:
        return Finding("C++ compiler", True, path)
    return Finding("C++ compiler", False, f"no {wanted}", "kernels and torch.compile on a CPU want one: install g++ or clang++")


def _cache() -> Finding:
    from gancore.data.cache import folder

    path = folder()
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if os.access(nearest, os.W_OK):
        return Finding("cache", True, str(path))
    return Finding("cache", False, f"{path} cannot be written", "judges are trained anew each time: set XDG_CACHE_HOME")


def _packages() -> list[Finding]:
    found = []
    for extra, packages in _EXTRAS.items():
        for package in packages:
            try:
                found.append(Finding(package, True, version(package)))
            except PackageNotFoundError:
                found.append(Finding(package, False, "not installed", f'pip install "gancore[{extra}]"'))
    return found
