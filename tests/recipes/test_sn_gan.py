"""sn-gan: RING(0.65); every layer's largest singular value is 1 at the end, so D is 1-Lipschitz; its vectors are in checkpoints."""

import torch

import gancore
from gancore.core import DataSpec
from gancore.penalties import gradient_penalty
from gancore.recipes import get
from tests.accept import Clause, at_most, between, ring, seeded


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("sn-gan", 0.65, seed, critic_steps=3)
    critic = run.trainer.nets["D"].eval()
    largest = [torch.linalg.matrix_norm(m.weight, 2).item() for m in layers(critic)]
    with seeded(seed):
        x = 3 * torch.randn(4096, 2)
        slope = gradient_penalty(critic, x, at="real", center=0.0, create_graph=False).sqrt().max().item()
    return [
        *clauses,
        between("smallest of the layers' spectral norms", min(largest), 0.95, 1.05),
        between("largest of them", max(largest), 0.95, 1.05),
        at_most("steepest slope of D", slope, 1.05),
    ]


def layers(critic: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in critic.modules() if isinstance(m, torch.nn.Linear)]


def test_every_layer_has_its_vectors_among_the_buffers():
    critic = get("sn-gan").function().nets(DataSpec((2,)))["D"]
    buffers = dict(critic.named_buffers())
    assert len(layers(critic)) == 4
    assert sum(name.endswith("_u") for name in buffers) == sum(name.endswith("_v") for name in buffers) == 4


def test_vectors_go_on_where_they_stopped(tmp_path):
    options = {"data": "ring8", "batch_size": 16, "critic_steps": 1, "seed": 1, "save_every": 4}
    whole = gancore.train("sn-gan", steps=8, out=str(tmp_path / "whole"), **options)
    again = gancore.load(tmp_path / "whole")
    ours, theirs = whole.trainer.nets["D"].state_dict(), again.nets["D"].state_dict()
    names = [name for name in ours if name.endswith(("_u", "_v"))]
    assert names
    assert all(torch.equal(ours[name], theirs[name]) for name in names)
