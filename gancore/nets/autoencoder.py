"""Encoders that draw codes, and auto-encoders made of an encoder and a generator of any body."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gancore.losses import reparametrize
from gancore.nets.toy import Mlp

Kind = Literal["deterministic", "gaussian", "universal"]


class Posterior(nn.Module):
    """q(z|x): samples to codes (N, codes).

    kind: "deterministic" is a function of x; "gaussian" draws from N(mean(x), variance(x)); "universal" is a function of x and of
    noise (N, codes), which can take any shape (Makhzani et al. 2016, arXiv:1511.05644, section 2.1).
    Raises ValueError for another kind.
    """

    def __init__(self, body: nn.Module, codes: int, kind: str = "gaussian") -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"posterior must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.body, self.codes, self.kind = body, codes, kind
        self.mixer = Mlp([3 * codes, 128, codes]) if kind == "universal" else None

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (N, codes) of a gaussian posterior."""
        mean, log_variance = self.body(x).chunk(2, 1)
        return mean, log_variance

    def mode(self, x: Tensor) -> Tensor:
        """The code (N, codes) without chance: the mean, or the value at zero noise."""
        if self.mixer is not None:
            return self.mixer(torch.cat([self.body(x), x.new_zeros(len(x), self.codes)], 1))
        return self.moments(x)[0] if self.kind == "gaussian" else self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.mixer is not None:
            return self.mixer(torch.cat([self.body(x), torch.randn(len(x), self.codes, device=x.device)], 1))
        return reparametrize(*self.moments(x)) if self.kind == "gaussian" else self.body(x)


class Autoencoder(nn.Module):
    """Samples to their reconstruction through a code."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def codes(self, x: Tensor) -> Tensor:
        """Codes (N, codes)."""
        return self.encoder(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))
