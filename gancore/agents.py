"""Several generators against one critic that names them: K + 1 classes, fakes by their generator and data the last."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gancore import nets as bodies
from gancore.core import Batch, DataSpec, Nets, State, Terms


def critic(nets: Nets, batch: Batch, state: State) -> Terms:
    """D's term "critic" (N,): cross-entropy of naming data and each fake's generator (arXiv:1704.02906, eq. 3)."""
    real, fake = nets.D(batch["x"]), nets.D(nets.G(batch["z"]))
    which = nets.G.which(len(fake)).to(fake.device)
    return {"critic": _of_data(real) + F.cross_entropy(fake, which, reduction="none")}


def generator(nets: Nets, batch: Batch, state: State) -> Terms:
    """The generators' term "generator" (N,): -log of the probability that a fake is data."""
    return {"generator": _of_data(nets.D(nets.G(batch["z"])))}


def likeness(nets: Nets, z: Tensor) -> Tensor:
    """Mean over z (N, latent) of the sum over pairs of generators of their samples' positive cosine in D's features, ()."""
    samples = nets.G.side_by_side(z)
    features = F.normalize(nets.D.features(samples.flatten(0, 1)).flatten(1), dim=1).unflatten(0, samples.shape[:2])
    cosines = F.relu(features.transpose(0, 1) @ features.permute(1, 2, 0))
    return (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)).mean()


def players(spec: DataSpec, generators: int) -> dict[str, torch.nn.Module]:
    """G of so many generators, and D with a score for each and for data."""
    return {"G": bodies.Several(generators, partial(bodies.generator, spec)), "D": bodies.critic(spec, outputs=generators + 1)}


def _of_data(scores: Tensor) -> Tensor:
    return F.cross_entropy(scores, torch.full_like(scores[:, 0], scores.shape[1] - 1, dtype=torch.int64), reduction="none")
