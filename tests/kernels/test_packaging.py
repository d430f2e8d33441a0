"""What is built and installed: sdist, wheels with and without the native extension, and what an import costs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTER = next(path for path in sys.path if path.endswith("site-packages"))
USE = """
import sys, torch
import gancore, gancore.kernels as kernels
assert not gancore.__file__.startswith({root!r}), gancore.__file__
assert "kernels" not in sys.modules
x, b = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(3)
y = kernels.bias_act(x, b, act="tanh")
torch.testing.assert_close(y, torch.tanh(x + b.view(1, 3, 1, 1)))
try:
    (g,) = torch.autograd.grad(kernels.bias_act(x, b, act="tanh", impl="native").sum(), x)
    torch.testing.assert_close(g, 1 - y * y)
    print("native")
except RuntimeError as error:
    print("without", error)
"""


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """The output of a command that must succeed, away from the sources and settings of this test run."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRITON_INTERPRET", "GANCORE_NO_NATIVE")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is written beside them."""
    copy = tmp_path_factory.mktemp("sources") / "gancore"
    copy.mkdir()
    for name in ("gancore", "kernels", "benchmarks", "csrc", "tests"):
        skip = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "constraints.txt"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "-o", copy / "dist", cwd=copy)
    (made,) = (copy / "dist").glob("*.tar.gz")
    return made


def unpacked(sdist: Path, to: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(to, filter="data")
    (folder,) = to.iterdir()
    return folder


def wheel(folder: Path, **environment: str) -> tuple[Path, str]:
    said = run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", folder / "dist", cwd=folder, **environment)
    (made,) = (folder / "dist").glob("*.whl")
    return made, said


def use(made: Path, tmp: Path) -> str:
    """Install a wheel into an empty environment that sees this one's libraries, but no sources, and run an operator there."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp / "env")
    python = tmp / "env/bin/python"
    (site,) = (tmp / "env/lib").glob("python*/site-packages")
    with zipfile.ZipFile(made) as archive:
        assert {name.split("/")[0].split("-")[0] for name in archive.namelist()} == {"gancore"}, "owns another top-level name"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", made)
    (site / "outer.pth").write_text(OUTER + "\n")
    return run(python, "-c", USE.format(root=str(ROOT)), cwd=tmp)


def test_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
        assert not [m.name for m in archive.getmembers() if m.issym() and m.linkname.startswith("/")]
    sources = {f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir()}
    package = {f"gancore/kernels/{path.name}" for path in (ROOT / "kernels").iterdir() if path.suffix in (".py", ".json")}
    assert sources | package | {"setup.py", "pyproject.toml", "LICENSE"} <= names


def test_wheel_from_the_sdist_works_without_the_sources(sdist: Path, tmp_path: Path) -> None:
    if not shutil.which("c++") and not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    made, _ = wheel(unpacked(sdist, tmp_path / "src"))
    assert "cp311-abi3" in made.name
    assert use(made, tmp_path).startswith("native")


def test_install_without_native_kernels_says_so_and_works(sdist: Path, tmp_path: Path) -> None:
    made, said = wheel(unpacked(sdist, tmp_path / "src"), GANCORE_NO_NATIVE="1")
    assert "native kernels left out: GANCORE_NO_NATIVE is set" in said
    assert "py3-none-any" in made.name
    told = use(made, tmp_path)
    assert told.startswith("without")
    assert "not installed" in told
    assert "pip install --no-build-isolation" in told


def test_install_with_a_failing_compiler_says_so_and_works(sdist: Path, tmp_path: Path) -> None:
    made, said = wheel(unpacked(sdist, tmp_path / "src"), CC="/bin/false", CXX="/bin/false")
    assert "native kernels left out: building gancore._C failed" in said
    assert "pip install --no-build-isolation" in said
    assert use(made, tmp_path).startswith("without")


LEAN = """
import os, sys, torch
before, reads, get = set(sys.modules), [], type(os.environ).__getitem__

def watched(self, key):
    frame = sys._getframe(1)
    while frame.f_code.co_filename.endswith(("os.py", "_collections_abc.py")) or "<frozen" in frame.f_code.co_filename:
        frame = frame.f_back
    if "/gancore/" in frame.f_code.co_filename:
        reads.append((key, frame.f_code.co_filename))
    return get(self, key)

type(os.environ).__getitem__ = watched
import gancore.kernels
loaded = {n for n in set(sys.modules) - before if n.split(".")[0] == "gancore"}
assert loaded and all(n == "gancore" or n.startswith("gancore.kernels") for n in loaded), loaded
assert not {"matplotlib", "PIL", "sklearn", "click", "rich", "kernels"} & set(sys.modules)
assert not torch.cuda.is_initialized()
assert not reads, reads
assert not hasattr(torch.ops.gancore, "bias_act_native"), "the native library was loaded"
"""


def test_import_is_lean() -> None:
    """No training code, plots, CUDA, native library or reading of the environment by our files."""
    run(sys.executable, "-c", LEAN, PYTHONPATH=str(ROOT))


def test_import_without_triton_works_and_a_launch_says_what_is_missing() -> None:
    code = """
import sys, torch
sys.modules["triton"] = None
import gancore.kernels as kernels
x, b = torch.randn(2, 3), torch.randn(3)
torch.testing.assert_close(kernels.bias_act(x, b, act="relu"), torch.relu(x + b))
try:
    kernels.bias_act(x, b, act="relu", impl="triton")
except RuntimeError as error:
    assert "triton is not installed" in str(error), error
else:
    raise AssertionError("it ran")
"""
    run(sys.executable, "-c", code, PYTHONPATH=str(ROOT))


def test_triton_without_a_gpu_says_what_is_missing() -> None:
    code = """
import torch
import gancore.kernels as kernels
try:
    kernels.bias_act(torch.randn(2, 3), torch.randn(3), impl="triton")
except RuntimeError as error:
    assert "need tensors on a GPU" in str(error), error
else:
    raise AssertionError("it ran")
"""
    run(sys.executable, "-c", code, PYTHONPATH=str(ROOT))


def test_the_folder_refuses_another_name() -> None:
    code = "import kernels"
    with pytest.raises(AssertionError, match=r"this package is gancore.kernels, imported as 'kernels'"):
        run(sys.executable, "-c", code, PYTHONPATH=str(ROOT))
