"""gancore: fast operators for adversarial training, and a thin training core on top of them.

`gancore.kernels` holds the operators and can be used alone. The names below are loaded on first use, so `import gancore` costs
nothing, starts no GPU and loads no plotting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gancore.acceleration import accelerate, restore
    from gancore.penalties.double_backward import SecondDerivatives, check_double_backward
    from gancore.runs import Run, load, train

__version__ = "0.1.0"
__all__ = ["Run", "SecondDerivatives", "__version__", "accelerate", "check_double_backward", "load", "restore", "train"]

_HOMES = {
    **dict.fromkeys(("Run", "load", "train"), "gancore.runs"),
    **dict.fromkeys(("accelerate", "restore"), "gancore.acceleration"),
    **dict.fromkeys(("SecondDerivatives", "check_double_backward"), "gancore.penalties.double_backward"),
}
_SUBMODULES = {
    "acceleration", "adversarial", "checkpoint", "core", "data", "environment", "evaluation", "export", "figures", "kernels",
    "layers", "losses", "metrics", "nets", "penalties", "recipes", "regularizers", "report", "runs", "trainer",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"gancore.{name}")
    raise AttributeError(f"module 'gancore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
