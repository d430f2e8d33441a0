"""Anybody's network on the fused operators, in place: `accelerate`, `restore`, and the report of what became of each convolution.

`analysis` finds the modules that may run as one operator, `running` lets them, `places` holds the words between the two.
"""

from typing import TypeVar

from torch import nn

from gancore.acceleration.analysis import analyse
from gancore.acceleration.places import Report, Row
from gancore.acceleration.running import install, uninstall

__all__ = ["Report", "Row", "accelerate", "restore"]

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model) -> Model:
    """Let transposed convolution + batch norm + activation, and convolution + activation, run as one operator, in place.

    Every module stays where it is and keeps its parameters and buffers: keys, optimisers, `.to`, copies, pickles and the order
    of loading are unchanged, and the same numbers come out up to rounding. What is fused runs so while the forward of the module
    that calls it runs; a part called by itself, with hooks on it, or recorded for elsewhere (torch.export, ONNX, torch.jit.trace)
    runs as before. Consecutive transposed convolutions become a chain that keeps one tensor a layer for the backward pass.

    Returns the same model; `model.acceleration_report` says what was fused, and what was not and why. Call it again after
    modules were added or exchanged. Raises TypeError for something that is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"accelerate: model got {type(model).__name__}, wants a torch.nn.Module")
    restore(model)
    plans, rows = analyse(model)
    for owner, runs in plans.items():
        install(owner, runs)
    model.acceleration_report = Report(tuple(rows))  # type: ignore[assignment]
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate`, in place; returns the same model, with everything that it has learned since."""
    for module in model.modules():
        uninstall(module)
        vars(module).pop("acceleration_report", None)
    return model
