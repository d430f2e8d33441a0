"""Adversarial auto-encoder, Makhzani et al. 2016, arXiv:1511.05644. A discriminator on codes holds them to the prior.

E and G (the decoder): min |x - G(E(x))|^2; then D on codes: max E log D(z) + E log(1 - D(E(x))), z from N(0, I), while E: max E log
D(E(x)). D sees codes only, and is not trained before the others.
"""

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe
from gancore.nets.autoencoder import Kind


@recipe
def aae(codes: int = 8, posterior: Kind = "deterministic", prior: float = 1.0, lr: float = 1e-3) -> Recipe:
    """codes: size of z. posterior: "deterministic", "gaussian" or "universal". prior: weight of E's adversarial term, 0 leaves an
    auto-encoder. lr: Adam's rate, betas (0.5, 0.999)."""

    def reconstruct(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"reconstruction": losses.squared_error(batch["x"], nets.G(nets.E(batch["x"])))}

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"critic": losses.non_saturating.critic(*scores(nets.D, batch["z"], nets.E(batch["x"])))}

    def regularise(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"prior": losses.non_saturating.generator(nets.D(nets.E(batch["x"])))}

    phases = [Phase("reconstruct", {"E": {"reconstruction": 1.0}, "G": {"reconstruction": 1.0}}, reconstruct)]
    if prior:
        phases += [
            Phase("critic", {"D": {"critic": 1.0}}, critic, draw=False),
            Phase("regularise", {"E": {"prior": prior}}, regularise, draw=False, optims={"E": adam(lr)}),
        ]
    return Recipe(
        nets=lambda spec: _players(spec, codes, posterior),
        optims={player: adam(lr) for player in ("E", "G", "D")},
        stages=[Stage("adversarial", 1.0, phases)],
        data=gan_data(),
        ema=("E", "G"),
        apply=lambda nets, x: nets.E.mode(x),
    )


def _players(spec: DataSpec, codes: int, posterior: str) -> dict:
    return {
        "E": nets.posterior(spec, codes, posterior),
        "G": nets.generator(spec, latent=codes),
        "D": nets.code_critic(codes),
    }
