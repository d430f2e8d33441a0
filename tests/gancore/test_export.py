"""Exports give back what the run samples."""

import copy
import json
from pathlib import Path

import pytest
import torch

import gancore
from gancore import export
from gancore.core import DataSpec, UsageError
from gancore.runs import Run, open_run


@pytest.fixture(scope="module")
def run() -> Run:
    """A conditional DCGAN after two steps, its average apart from its weights."""
    return gancore.train("cgan", data="digits", steps=2, batch_size=8, width=8, ema=0.5)


def test_safetensors_hold_the_averaged_players(run: Run, tmp_path: Path):
    from safetensors import safe_open

    weights, described = export.safetensors(run, tmp_path / "g.safetensors")
    about = json.loads(described.read_text())
    with safe_open(weights, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert file.metadata() == {"recipe": "cgan", "step": "2"}
    assert about["tensors"].keys() == found.keys()
    spec = about["spec"]
    nets = gancore.recipes.get(about["recipe"]).function(**about["parameters"]).nets(
        DataSpec(tuple(spec["shape"]), spec["classes"], spec["net"], spec["width"])
    )
    generator = nets["G"]
    generator.load_state_dict({name.removeprefix("G."): t for name, t in found.items() if name.startswith("G.")})
    averaged, trained = run.nets["G"].state_dict(), run.trainer.nets["G"].state_dict()
    assert all(t.equal(averaged[name]) for name, t in generator.state_dict().items())
    assert not generator.state_dict()["last.weight"].equal(trained["last.weight"])
    z, y = torch.randn(4, generator.latent), torch.arange(4)
    torch.testing.assert_close(generator.eval()(z, y), run.nets["G"].eval()(z, y), atol=1e-6, rtol=0)


def test_onnx_gives_the_samples_of_the_averaged_generator(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    assert "onnxruntime's samples equal PyTorch's" in export.onnx(run, tmp_path / "g.onnx")
    assert capfd.readouterr().err == ""
    session = runtime.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["z", "y"]
    z, y = torch.randn(7, 100), torch.arange(7)
    (got,) = session.run(["samples"], {"z": z.numpy(), "y": y.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), run.nets["G"].eval()(z, y), atol=1e-5, rtol=0)
    other = copy.deepcopy(run.nets["G"]).eval()
    torch.nn.init.constant_(other.last.bias, 0.1)
    with pytest.raises(UsageError, match="differ from PyTorch's"):
        export._check(onnx.load(tmp_path / "g.onnx"), other)


def test_what_cannot_be_exported_says_why(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = open_run("gan-ns", data="ring8")
    object.__setattr__(other.recipe, "sample", lambda nets, n, state: torch.zeros(n, 2))
    with pytest.raises(UsageError, match="samples in its own way"):
        export.onnx(other, tmp_path / "x.onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="onnx"):
        export.onnx(run, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


