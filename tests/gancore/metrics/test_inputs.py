"""What all scores share: images through a network, the registry, the lean import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gancore.metrics
from gancore.core import registry
from gancore.metrics import fid, inception_score, kid, precision_recall

SCORES = [
    lambda x, y, **net: fid(x, y, **net),
    lambda x, y, **net: kid(x, y, subsets=3, subset_size=16, **net),
    lambda x, y, **net: precision_recall(x, y, **net),
]


class Judge(nn.Module):
    """Counts its calls; its dropout shows whether it was in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Dropout(0.5))
        self.body[1].eval()
        self.sizes = []

    def features(self, x):
        self.sizes.append(len(x))
        assert not torch.is_grad_enabled()
        return self.body(x)

    def probabilities(self, x):
        return self.features(x).softmax(1)


def images(seed):
    return torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("score", SCORES)
def test_images_are_judged_in_batches_and_evaluation_mode(score):
    x, y, judge = images(0), images(1), Judge().train()
    judge.body[1].eval()
    found = score(x, y, network=judge, batch=16)
    assert judge.sizes == [16, 16, 8, 16, 16, 8]
    assert (judge.training, judge.body.training, judge.body[1].training) == (True, True, False)
    judge.eval()
    with torch.no_grad():
        assert found == pytest.approx(score(judge.features(x), judge.features(y)), rel=1e-4, abs=1e-7)


def test_probabilities_of_images():
    x, judge = images(0), Judge().eval()
    with torch.no_grad():
        wanted = inception_score(judge.probabilities(x), splits=4)
    assert inception_score(x, splits=4, network=judge, batch=7) == pytest.approx(wanted, rel=1e-6)


def test_a_network_need_not_be_a_module():
    class Plain:
        def features(self, x):
            return x.flatten(1)

        def probabilities(self, x):
            return x.flatten(1).softmax(1)

    assert fid(images(0), images(1), network=Plain()) == pytest.approx(fid(images(0).flatten(1), images(1).flatten(1)))


def test_a_network_that_gives_no_features_is_named():
    class Pooled(Judge):
        def features(self, x):
            return x

    with pytest.raises(ValueError, match=r"network: wants features \(40, D\) of 40 images, got shape"):
        fid(images(0), images(1), network=Pooled())
    with pytest.raises(ValueError, match=r"x: with network= wants images \(N, C, H, W\)"):
        fid(torch.zeros(9, 4), images(1), network=Judge())
    with pytest.raises(ValueError, match="batch: wants at least 1, got 0"):
        fid(images(0), images(1), network=Judge(), batch=0)


def test_file_function_and_id_are_one_name():
    folder = Path(gancore.metrics.__file__).parent
    names = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    assert names
    for name in names:
        entry = registry.ENTRIES[name.replace("_", "-")]
        assert entry.kind == "metric"
        assert entry.function is getattr(gancore.metrics, name)
        assert name in gancore.metrics.__all__
        assert "arXiv" in entry.title


def test_importing_scores_loads_no_plots():
    code = "import sys, gancore.metrics; print({'matplotlib', 'PIL', 'scipy', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
