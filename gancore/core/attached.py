"""Numbers that others keep about a module: in checkpoints of a run, though not among its buffers, whose names are its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

_kept: Any = WeakIdKeyDictionary()  # module -> {name: tensor}


def attach(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """The tensor kept under this name about `module`; `value` where there is none yet, or on another device than that."""
    own = _kept.setdefault(module, {})
    if name not in own or own[name].device != value.device:
        own[name] = own[name].to(value.device) if name in own else value
    kept: Tensor = own[name]
    return kept


def attached(module: nn.Module) -> dict[str, Tensor]:
    """All that is kept about a module and its parts, by path and name."""
    return {f"{path}:{name}": t for path, part in module.named_modules() if part in _kept for name, t in _kept[part].items()}


def restore(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Return to what `attached` gave, in place where there is such a tensor."""
    for key, value in saved.items():
        path, name = key.rsplit(":", 1)
        own = _kept.setdefault(module.get_submodule(path), {})
        if name in own:
            own[name].copy_(value)
        else:
            own[name] = value.clone()
