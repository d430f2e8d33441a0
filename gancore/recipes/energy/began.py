"""BEGAN, Berthelot et al. 2017, arXiv:1703.10717. D is an auto-encoder whose error is its score; k balances the players.

D: min D(x) - k D(g), G: min D(g), k <- clip[0,1](k + gain (balance D(x) - D(g))), where D(v) = |v - AE(v)|^exponent,
mean over the elements of a sample (eq. 1). The state holds k and the measure of convergence M = D(x) + |balance D(x) - D(g)|.
"""

from torch import Tensor

from gancore import energies
from gancore.adversarial import gan_data
from gancore.core import Batch, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def began(balance: float = 0.5, gain: float = 1e-3, exponent: int = 1, codes: int = 16, lr: float = 1e-4) -> Recipe:
    """balance: the paper's gamma. gain: the step of k. exponent: 1 or 2. codes: size of the auto-encoder's code.
    lr: Adam's rate."""

    def energy(nets: Nets, x: Tensor) -> Tensor:
        return (x - nets.D(x)).abs().pow(exponent).flatten(1).mean(1)

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        both = {"real": batch["x"], "fake": nets.G(batch["z"])}
        return {name: energy(nets, x) for name, x in both.items()}

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"energy": energy(nets, nets.G(batch["z"]))}

    def control(nets: Nets, state: State, terms: Terms) -> None:
        lead = balance * terms["real"] - terms["fake"]
        state.k.add_(gain * lead).clamp_(0, 1)
        state.convergence.copy_(terms["real"] + lead.abs())

    phases = [
        Phase("critic", {"D": {"real": 1.0, "fake": lambda state: -state.k}}, critic, after=control),
        Phase("generator", {"G": {"energy": 1.0}}, generator),
    ]
    return Recipe(
        nets=energies.players(codes),
        optims={"G": adam(lr), "D": adam(lr)},
        stages=[Stage("adversarial", 1.0, phases)],
        data=gan_data(),
        state=lambda: State(k=0.0, convergence=0.0),
    )
