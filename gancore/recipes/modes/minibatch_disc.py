"""Minibatch discrimination, Salimans et al. 2016, arXiv:1606.03498, section 3.2. D sees how close a sample lies to its batch.

o_b(x_i) = sum over j != i of exp(-|M_ib - M_jb|_1), M = h T, joins the features h(x) before D's score: a generator that collapses
gives itself away by them. The objective is that of gan-ns.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from gancore import losses, nets
from gancore.adversarial import adversarial
from gancore.core import DataSpec, Recipe, adam, recipe
from gancore.layers import MinibatchDiscrimination


class Critic(nn.Module):
    """A batch of samples (N, ...) to scores (N,): features h, beside them B statistics of the batch, one linear layer."""

    def __init__(self, spec: DataSpec, features: int, B: int, C: int) -> None:
        super().__init__()
        self.encoder = nets.encoder(spec, features)
        self.minibatch = MinibatchDiscrimination(features, B, C)
        self.head = nn.Linear(features + B, 1)

    def features(self, x: Tensor) -> Tensor:
        """h and o (N, features + B)."""
        return self.minibatch(F.leaky_relu(self.encoder(x), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)


@recipe
def minibatch_disc(features: int = 128, B: int = 16, C: int = 5, lr: float = 2e-4) -> Recipe:
    """features: size of h. B: statistics of a sample (100 in the paper, for images). C: numbers compared for each. lr: Adam's rate,
    betas (0.5, 0.999)."""

    def pair(spec: DataSpec) -> Mapping[str, nn.Module]:
        return {"G": nets.generator(spec), "D": Critic(spec, features, B, C)}

    return adversarial(losses.non_saturating, adam(lr), nets=pair)
