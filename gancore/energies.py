"""Critics that are auto-encoders: the energy of a sample is how badly they reproduce it."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from gancore import losses
from gancore import nets as bodies
from gancore.core import Batch, DataSpec, Nets, Terms


def energy(critic: nn.Module, x: Tensor) -> Tensor:
    """|x - critic(x)|^2 over all elements of a sample: (N, ...) -> (N,)."""
    return losses.squared_error(x, critic(x))


def hinge(nets: Nets, batch: Batch, margin: float | Tensor) -> Terms:
    """The critic's terms of EBGAN (arXiv:1609.03126, eq. 1), (N,) each: "real" E(x), "margin" [margin - E(g)]+; "fake" is E(g)."""
    fake = energy(nets.D, nets.G(batch["z"]))
    return {"real": energy(nets.D, batch["x"]), "margin": F.relu(margin - fake), "fake": fake}


def pull_away(codes: Tensor) -> Tensor:
    """Mean squared cosine between the codes (N, C) of different samples, () (arXiv:1609.03126, eq. 4)."""
    n = len(codes)
    cosines = F.normalize(codes.flatten(1), dim=1)
    gram = cosines @ cosines.T
    return (gram.square().sum() - gram.diagonal().square().sum()) / (n * (n - 1))


def players(codes: int) -> Callable[[DataSpec], Mapping[str, nn.Module]]:
    """G, and D an auto-encoder whose decoder is of G's kind; both codes are of that size."""
    return lambda spec: {"G": bodies.generator(spec, latent=codes), "D": bodies.autoencoder(spec, codes)}
