"""Packages of gancore and its optional native extension; everything else is declared in pyproject.toml.

The extension is every csrc/*.cpp, written against torch's stable ABI: one library serves Python 3.11 and later and torch 2.11
and later. It needs torch's headers and a C++17 compiler in the environment that builds. Without them, or with
GANCORE_NO_NATIVE=1, the installation succeeds and says what was left out; the operators then run on PyTorch and Triton.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
HOW = "to get it: pip install --no-build-isolation . (or -e .) with torch and a C++17 compiler at hand"


def torch_folder():
    """Where torch lies in the building environment, without importing it; None if it is not there."""
    spec = find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def extensions():
    """The native extension, or nothing with the reason printed."""
    if os.environ.get("GANCORE_NO_NATIVE", "0") not in ("", "0"):
        print("gancore: native kernels left out: GANCORE_NO_NATIVE is set")
        return []
    torch = torch_folder()
    if torch is None:
        print(f"gancore: native kernels left out: no torch in the environment that builds; {HOW}")
        return []
    return [
        Extension(
            "gancore._C",
            sources=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*.cpp")),
            depends=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*.h")),
            include_dirs=[str(torch / "include")],
            library_dirs=[str(torch / "lib")],
            libraries=["torch", "torch_cpu"],
            define_macros=[("TORCH_TARGET_VERSION", "0x020b000000000000"), ("Py_LIMITED_API", "0x030b0000")],
            # No errno and no traps: with them g++ does not vectorise branch-free selections. Contraction: -std=c++17 turns fused
            # multiply-adds off.
            extra_compile_args=[
                *("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
                *("-fvisibility=hidden", "-g0", "-Wno-psabi"),
            ],
            py_limited_api=True,
            optional=True,
        )
    ]


class BuildNative(build_ext):
    """Builds the extension, its files side by side; a failure is reported and does not fail the installation."""

    def build_extension(self, ext):
        # setuptools takes the files of one extension in turn, minutes on one core of however many there are.
        one_by_one = self.compiler.compile

        def side_by_side(sources, **settings):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return [file for files in pool.map(lambda source: one_by_one([source], **settings), sources) for file in files]

        self.compiler.compile = side_by_side
        try:
            super().build_extension(ext)
        except Exception as error:
            print(f"gancore: native kernels left out: building {ext.name} failed: {error}; {HOW}")
            raise


setup(
    version="0.1.0",
    packages=find_packages(include=["gancore", "gancore.*"]),
    package_data={"gancore": ["py.typed"], "gancore.kernels": ["*.json"], "gancore.report": ["*.j2", "*.css"],
                  "gancore.profiling": ["*.j2"], "gancore.gallery": ["*.j2"], "gancore.benchmarks": ["*.j2"]},
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
