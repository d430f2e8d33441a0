"""Columns of a data set, toy sets by name, and the cache of trained judges."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from gancore import data
from gancore.data import DataError, Dataset, cache, classifier


def test_contradicting_columns():
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 2, 1])
    for fields, classes, message in (
        ({"z": x}, 0, "no column 'x'"),
        ({"x": x, "y": y[:3]}, 0, "different lengths"),
        ({"x": x[:0]}, 0, "empty"),
        ({"x": x}, 3, "need a column 'y'"),
        ({"x": x, "y": y.float()}, 3, "need a column 'y' of int64"),
        ({"x": x, "y": y}, 2, "labels 0..2, expected 0..1"),
        ({"x": x, "y": -y}, 3, "labels -2..0"),
    ):
        with pytest.raises(DataError, match=message):
            Dataset("odd", fields, classes)


def test_take():
    pixels = torch.arange(0, 256, 17, dtype=torch.uint8).view(4, 1, 2, 2)
    dataset = Dataset("small", {"x": pixels, "y": torch.tensor([0, 1, 1, 0])}, 2)
    rows = dataset.take(torch.tensor([3, 0, 3]))
    assert rows["x"].dtype == torch.float32
    assert rows["x"].flatten(1)[:, 0].tolist() == pytest.approx([12 * 17 / 127.5 - 1, -1, 12 * 17 / 127.5 - 1])
    assert dataset.all()["x"].max() == 1
    assert rows["y"].tolist() == [0, 0, 0]
    assert dataset.to("cpu").fields["x"].dtype == torch.uint8
    assert dataset.is_image
    assert dataset.shape == (1, 2, 2)


def test_digest():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    digest = Dataset("a", {"x": x}).digest()
    assert digest == Dataset("b", {"x": x.clone()}).digest()
    assert len(digest) == 64
    changed = x.clone()
    changed[2, 1] += 1e-6
    others = [Dataset("a", {"x": v}).digest() for v in (changed, x.view(4, 3, 1), x.double(), x.flip(0))]
    assert len({digest, *others}) == 5


@pytest.mark.parametrize("name", data.names())
def test_toy_sets(name):
    random_state = torch.get_rng_state()
    dataset = data.load(name)
    assert torch.equal(random_state, torch.get_rng_state())
    assert data.load(name) is dataset
    for part in (dataset, dataset.held_out or dataset, *dataset.parts.values()):
        for key, value in part.fields.items():
            assert value.dtype in (torch.uint8, torch.float32, torch.int64), (part.name, key)
            assert value.isfinite().all(), (part.name, key)
    if dataset.classes:
        assert dataset.fields["y"].unique().tolist() == list(range(dataset.classes))


def test_toy_sets_are_the_same_in_every_process():
    wanted = ["moons:20", "gauss1d:3", *[name for name in data.names() if not name.startswith("digits")]]
    code = f"from gancore import data; print(*[data.load(n).digest() for n in {wanted}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == [data.load(name).digest() for name in wanted]


def test_importing_is_cheap():
    code = "import sys, gancore.data; print(*[m for m in ('sklearn', 'PIL', 'scipy', 'gancore.data.toy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.parametrize("missing", ["sklearn.datasets", "PIL"])
def test_missing_extra(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "a.png").write_bytes(b"")
    if missing == "PIL":
        source = lambda: data.load(str(tmp_path))
    else:
        from gancore.data.toy import digits

        source = digits._source.__wrapped__
    with pytest.raises(DataError, match=r'pip install "gancore\[train\]"'):
        source()


def test_names_and_parameters():
    assert data.load("moons:20") is not data.load("moons")
    assert data.load("gauss1d:2.5").name == "gauss1d:2.5"
    for name, message in (
        ("moons:far", "'angle' is not a finite number"),
        ("moons:nan", "'angle' is not a finite number"),
        ("faces16:2", "takes no parameter"),
        ("face16", "did you mean faces16"),
    ):
        with pytest.raises(DataError, match=message):
            data.load(name)
    with pytest.raises(DataError, match="has no oracle"):
        data.oracle("lines")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gancore"


def built(value=1.0):
    """Whether `cached` had to build, and what it gave."""
    calls = []

    def build():
        calls.append(1)
        return {"weights": {"w": torch.tensor([value])}, "accuracy": {"y": 0.5}}

    found = cache.cached("thing", [sys.modules[__name__]], build)
    return bool(calls), found["weights"]["w"].item()


def test_cache(folder):
    assert built(1.0) == (True, 1.0)
    assert built(2.0) == (False, 1.0)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    one = torch.tensor([1.0]).numpy().tobytes()
    assert whole.count(one) == 1
    for damaged in (whole[:-100], whole[:10], b"", whole.replace(one, b"\0\0\0\0")):
        file.write_bytes(damaged)
        assert built(3.0) == (True, 3.0)
        assert built(4.0) == (False, 3.0)
    assert [f.name for f in folder.iterdir()] == [file.name]


def test_cache_follows_the_source_and_torch(folder, monkeypatch):
    assert built(1.0)[0]
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert built(2.0) == (True, 2.0)
    monkeypatch.undo()
    monkeypatch.setattr(cache.inspect, "getsource", lambda module: "changed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    assert built(3.0) == (True, 3.0)


def test_cache_without_a_place(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert built(1.0) == (True, 1.0)


def body():
    """A judge's body for two pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 64), nn.ReLU())


def test_joint_classes():
    torch.manual_seed(0)
    net = classifier.Classifier(body(), {"a": 2, "b": 3}, ("a", "b"))
    x = torch.randn(50, 1, 1, 2)
    joint, parts = net.probabilities(x), {name: logits.softmax(1) for name, logits in net.logits(x).items()}
    assert net.classes == 6
    assert torch.allclose(joint[:, 3 * 1 + 2], parts["a"][:, 1] * parts["b"][:, 2])
    assert torch.equal(net.predict(x), 3 * net.factors(x)["a"] + net.factors(x)["b"])


def test_judge_is_scored_on_unseen_images(folder):
    """Labels that are coin tosses: a judge scored on what it was trained on would look good."""
    generator = torch.Generator().manual_seed(0)
    columns = {"x": torch.randn(60, 1, 1, 2, generator=generator), "y": torch.randint(2, (60,), generator=generator)}
    random_state = torch.get_rng_state()
    how = classifier.Training(steps=800, lr=1e-2, batch=48)
    net = classifier.trained("coins", body, lambda: columns, {"y": 2}, how, ("y",), held_out=0.5)
    assert torch.equal(random_state, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(how.seed)
        classifier.Classifier(body(), {"y": 2}, ("y",))
        order = torch.randperm(60)
    seen = classifier.accuracy(net, columns["x"][order[30:]], {"y": columns["y"][order[30:]]})
    unseen = classifier.accuracy(net, columns["x"][order[:30]], {"y": columns["y"][order[:30]]})
    assert net.test_accuracy == unseen
    assert seen["y"] > unseen["y"] + 0.15
    again = classifier.trained("coins", body, lambda: pytest.fail("was cached"), {"y": 2}, how, ("y",), held_out=0.5)
    assert again.test_accuracy == unseen
    assert torch.equal(again.features(columns["x"]), net.features(columns["x"]))
