"""Margin adaptation GAN, Wang et al. 2017, arXiv:1704.03817. EBGAN whose margin follows the energy of data down.

The auto-encoder learns data first; the margin starts at their mean energy. D: min E(x) + [m - E(g)]+, G: min E(g). After an
epoch m <- E(x) if E(x) < m, E(x) < E(g) and E(g) did not fall since the epoch before (means over the epoch; algorithm 1).
"""

import torch

from gancore import energies
from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def magan(
    pretrain: float = 0.1, margin: float = 5.0, adapt: bool = True, epoch: int = 14, codes: int = 16, lr: float = 1e-3
) -> Recipe:
    """pretrain: share of the steps for the auto-encoder alone. margin: until an epoch of that is over. adapt: False holds the
    margin. epoch: batches in an epoch. codes: size of the auto-encoder's code. lr: Adam's rate, betas (0.5, 0.999)."""

    def learn(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"real": energies.energy(nets.D, batch["x"])}

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return energies.hinge(nets, batch, state.margin)

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"energy": energies.energy(nets.D, nets.G(batch["z"]))}

    def means(state: State, terms: Terms) -> tuple[torch.Tensor, ...]:
        """Whether an epoch ends, and its mean energies of data and fakes; without asking the device."""
        state.sums.add_(torch.stack([terms["real"], terms.get("fake", terms["real"]), torch.ones_like(terms["real"])]))
        ends = state.sums[2] >= epoch
        real, fake = (state.sums[:2] / state.sums[2]).unbind()
        state.sums.mul_(~ends)
        return ends, real, fake

    def start(nets: Nets, state: State, terms: Terms) -> None:
        ends, real, _ = means(state, terms)
        state.margin.copy_(torch.where(ends, real, state.margin))

    def follow(nets: Nets, state: State, terms: Terms) -> None:
        ends, real, fake = means(state, terms)
        lower = ends & (real < state.margin) & (real < fake) & (fake >= state.fake)
        state.margin.copy_(torch.where(lower, real, state.margin))
        state.fake.copy_(torch.where(ends, fake, state.fake))

    alone = [Stage("autoencoder", pretrain, [Phase("reconstruct", {"D": {"real": 1.0}}, learn, after=start)])] if pretrain else []
    game = [
        Phase("critic", {"D": {"real": 1.0, "margin": 1.0}}, critic, after=follow if adapt else None),
        Phase("generator", {"G": {"energy": 1.0}}, generator),
    ]
    stages = [*alone, Stage("adversarial", 1 - pretrain, game)]
    optims = {player: adam(lr) for player in ("G", "D")}
    return Recipe(energies.players(codes), optims, stages, gan_data(), lambda: State(margin=margin, fake=0.0, sums=torch.zeros(3)))
