"""Networks by body: "toy", an MLP for vectors and small images, and "dcgan" for square images. Builders, no training logic.

Every generator has `latent` (size of its code) and `classes` (0: unconditional) and maps z (N, latent), and labels (N,) if it is
conditional, to samples. Every critic maps samples, and labels, to scores (N,), and has `features` (hidden activations).
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from gancore.core import DataSpec, UsageError
from gancore.layers import spectral
from gancore.nets import dcgan, toy
from gancore.nets.autoencoder import Autoencoder, Posterior
from gancore.nets.several import Several
from gancore.nets.toy import Mlp

__all__ = [
    "Autoencoder", "Mlp", "Posterior", "Several", "autoencoder", "code_critic",
    "critic", "encoder", "gan", "generator", "posterior",
]  # fmt: skip

_BODIES = {"toy": toy, "dcgan": dcgan}


def _body(spec: DataSpec) -> Any:
    return _BODIES[spec.net]


def _classes(spec: DataSpec, conditional: str, ways: tuple[str, ...]) -> int:
    if conditional not in ("", *ways):
        raise ValueError(f"conditional must be empty, {' or '.join(ways)}, got {conditional!r}")
    if conditional and not spec.classes:
        raise UsageError("this recipe is conditional and needs data with labels, the data set has none")
    return spec.classes if conditional else 0


def generator(spec: DataSpec, *, latent: int = 0, conditional: str = "", **settings: Any) -> nn.Module:
    """A generator of samples of `spec.shape`. latent: 0 for the body's default. conditional: "", "concat" or "norm"."""
    classes = _classes(spec, conditional, ("concat", "norm"))
    return _body(spec).Generator(spec, latent=latent, classes=classes, how=conditional, **settings)


def critic(spec: DataSpec, *, norm: bool = True, conditional: str = "", spectral_norm: bool = False, **settings: Any) -> nn.Module:
    """A critic of samples of `spec.shape`.

    norm: batch normalisation where the body has it. conditional: "", "concat" or "projection" (arXiv:1802.05637).
    """
    classes = _classes(spec, conditional, ("concat", "projection"))
    built = _body(spec).Critic(spec, classes=classes, how=conditional, norm=norm, **settings)
    return spectral(built) if spectral_norm else built


def encoder(spec: DataSpec, codes: int, **settings: Any) -> nn.Module:
    """A network from samples of `spec.shape` to `codes` numbers (N, codes)."""
    return _body(spec).Encoder(spec, codes, **settings)


def posterior(spec: DataSpec, codes: int, kind: str = "gaussian") -> Posterior:
    """An encoder of samples to codes (N, codes): "deterministic", "gaussian" or "universal" (see Posterior)."""
    numbers = 2 * codes if kind != "deterministic" else codes
    return Posterior(encoder(spec, numbers), codes, kind)


def autoencoder(spec: DataSpec, codes: int) -> Autoencoder:
    """A shallow auto-encoder of samples through `codes` numbers, without normalisation: the critic of BEGAN and its kin."""
    settings = {"depth": 1} if spec.net == "toy" else {"norm": False}
    return Autoencoder(encoder(spec, codes, **settings), generator(spec, latent=codes, **settings))


def code_critic(codes: int, *, width: int = 128, depth: int = 2) -> nn.Module:
    """A critic of codes (N, codes) to scores (N,)."""
    return toy.Critic(DataSpec((codes,), width=width), depth=depth)


def gan(spec: DataSpec, **settings: Any) -> Mapping[str, nn.Module]:
    """The usual pair: G, and D with batch normalisation where its body has it. settings: of the critic."""
    return {"G": generator(spec), "D": critic(spec, **settings)}
