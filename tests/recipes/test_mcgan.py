"""mcgan: RING(0.45); of N(0, I) and N(0, 4 I) the mean part is 0 and the covariance part 6; frames stay orthonormal."""

import torch

from gancore import losses
from gancore.layers import Frames
from gancore.recipes.ipm.mcgan import second
from tests.accept import Clause, at_most, between, ring, seeded


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("mcgan", 0.45, seed, clip_value=0.02, lr=5e-4)
    mean, covariance, nuclear = gaussians(seed, 20_000)
    return [
        *clauses,
        at_most("U'U off the identity", skew(run.trainer.nets["C"]), 1e-5),
        at_most("mean part of N(0, I) and N(0, 4 I)", mean, 0.1),
        between("their covariance part, k = 2", covariance, 5.7, 6.3),
        at_most("covariance part off the nuclear norm, relative", abs(covariance / nuclear - 1), 1e-5),
    ]


def gaussians(seed: int, n: int) -> tuple[float, float, float]:
    """Mean part, covariance part by ascent on the frames, and by singular values, with Phi the identity of the plane."""
    with seeded(seed):
        real, fake, frames = torch.randn(n, 2), 2 * torch.randn(n, 2), Frames(2, 2)
    matrix = second(real) - second(fake)
    optimizer = torch.optim.SGD(frames.parameters(), 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        (-frames(matrix)).backward()
        optimizer.step()
        frames.retract()
    mean = losses.mean_distance(real, fake).item()
    return mean, frames(matrix).item(), torch.linalg.svdvals(matrix).sum().item()


@torch.no_grad()
def skew(frames: Frames) -> float:
    return max((f.T @ f - torch.eye(f.shape[1])).abs().max().item() for f in (frames.U, frames.V))


def test_ascent_on_frames_reaches_the_singular_values():
    mean, covariance, nuclear = gaussians(3, 4000)
    assert mean < 0.2
    assert abs(covariance / nuclear - 1) < 1e-5
    assert abs(covariance - 6) < 0.5


def test_a_retraction_is_orthonormal_and_leaves_orthonormal_frames_alone():
    with seeded(0):
        frames = Frames(5, 3)
    before = frames.U.detach().clone()
    frames.retract()
    torch.testing.assert_close(frames.U, torch.nn.Parameter(before))
    frames.V.data += 0.3 * torch.ones(5, 3)
    assert skew(frames) > 0.1
    frames.retract()
    assert skew(frames) < 1e-5
