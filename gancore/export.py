"""A run for other programs: weights as safetensors with a JSON description, or the sampler as ONNX."""

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gancore.checkpoint import write_atomic
from gancore.core import UsageError, generate

if TYPE_CHECKING:
    from gancore.runs import Run

_TOLERANCE = 1e-4


def safetensors(run: "Run", path: Path) -> tuple[Path, Path]:
    """Write the averaged players' weights and buffers, "<player>.<name>", and beside them what they are, as JSON; both paths.

    Raises OutputError.
    """
    from safetensors.torch import save

    path = Path(path)
    # Channels-last strides and shared storage have no place in the format.
    weights = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in run.nets.state_dict().items()}
    spec = run.trainer.spec
    about = {
        **{key: value for key, value in run.describe().items() if key in _ABOUT},
        "step": run.trainer.steps_done,
        "spec": {"shape": spec.shape, "classes": spec.classes, "net": spec.net, "width": spec.width},
        "averaged": list(run.trainer.average.players),
        "tensors": {name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for name, t in weights.items()},
    }
    described = path.with_suffix(".json")
    write_atomic(path, lambda file: file.write(save(weights, {"recipe": run.entry.id, "step": str(run.trainer.steps_done)})))
    write_atomic(described, lambda file: file.write((json.dumps(about, indent=2) + "\n").encode()))
    return path, described


_ABOUT = ("recipe", "source", "title", "options", "parameters", "data", "players", "versions", "commit")


def onnx(run: "Run", path: Path) -> str:
    """Write the averaged generator as an ONNX graph from "z" (N, latent), and labels "y" (N,) if it is conditional, to "samples".

    The batch is free. Returns how the file was checked: against PyTorch with onnxruntime where that is installed, else by
    onnx.checker. Raises UsageError for a recipe whose samples are more than its generator of noise, OutputError, and
    ModuleNotFoundError without onnx and onnxscript.
    """
    if run.recipe.sample is not generate:
        raise UsageError(f"{run.entry.id} samples in its own way, not as G(z): export its weights as safetensors")
    generator = copy.deepcopy(run.nets["G"]).cpu().eval().requires_grad_(False)
    inputs = _inputs(generator, 3)
    program = _exported(generator, inputs)
    write_atomic(Path(path), lambda file: file.write(program.SerializeToString()))
    return _check(program, generator)


def _inputs(generator: Any, n: int) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(0)
    inputs = {"z": torch.randn(n, generator.latent, generator=source)}
    if generator.classes:
        inputs["y"] = torch.randint(generator.classes, (n,), generator=source)
    return inputs


def _exported(generator: nn.Module, inputs: dict[str, Tensor]) -> Any:
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"no module named {package!r}", name=package)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            generator,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["samples"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    return exported.model_proto


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the exporter's remarks on libraries that are not installed."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check(program: Any, generator: nn.Module) -> str:
    import onnx as format

    format.checker.check_model(program, full_check=True)
    if find_spec("onnxruntime") is None:
        return "the graph is valid (install onnxruntime to compare its samples with PyTorch's)"
    import onnxruntime

    session = onnxruntime.InferenceSession(program.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = _inputs(generator, 5)
    with torch.no_grad():
        wanted = generator(*inputs.values())
    (got,) = session.run(["samples"], {name: t.numpy() for name, t in inputs.items()})
    worst = float((torch.from_numpy(got) - wanted).abs().max())
    if not worst <= _TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise UsageError(f"onnxruntime's samples differ from PyTorch's by {worst:.2g}: use safetensors")
    return f"onnxruntime's samples equal PyTorch's to {worst:.1g}"
