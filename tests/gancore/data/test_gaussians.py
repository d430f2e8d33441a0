"""The mixtures and the rule that counts their modes."""

import pytest
import torch

from gancore import data


@pytest.mark.parametrize(("name", "modes"), [("ring8", 8), ("grid25", 25)])
def test_true_samples(name, modes):
    mixture, judge = data.load(name), data.oracle(name)
    x, y = mixture.fields["x"], mixture.fields["y"]
    found = judge.quality(x[:4000])
    assert found["modes"] == modes
    assert judge.quality(x)["hq"] == pytest.approx(0.989, abs=0.002)
    assert torch.equal(judge.nearest(x), y)
    assert mixture.classes == modes
    assert x.dtype == torch.float32
    assert (torch.bincount(y).float() / len(y) * modes - 1).abs().max() < 0.1
    spread = torch.stack([x[y == k].std(0) for k in range(modes)])
    assert torch.allclose(spread, torch.tensor(0.1), rtol=0.08)


def test_geometry():
    ring, grid = data.oracle("ring8").centres, data.oracle("grid25").centres
    assert torch.allclose(ring.norm(dim=1), torch.tensor(2.0))
    assert torch.pdist(ring).min() == pytest.approx(2 * 2 * torch.sin(torch.tensor(torch.pi / 8)).item())
    assert torch.pdist(grid).min() == 2
    assert grid.mean(0).tolist() == [0, 0]


def test_counting_rule():
    judge = data.oracle("ring8")
    samples = judge.centres[torch.tensor([0] * 98 + [1, 2])].clone()
    samples[0, 0] = float("nan")
    samples[1] += 0.31  # beyond 3 sigma
    samples[2, 1] += 0.29
    assert judge.quality(samples) == {"modes": 3, "hq": pytest.approx(0.98)}
    assert judge.quality(samples.repeat(2, 1)[:150])["modes"] == 1
    assert judge.quality(torch.full((10, 2), float("nan"))) == {"modes": 0, "hq": 0.0}
