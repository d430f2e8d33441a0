"""VAE/GAN, Larsen et al. 2016, arXiv:1512.09300. A VAE whose likelihood is measured in the discriminator's features.

E: KL + L_feat, G (the decoder): gamma L_feat - L_GAN, D: max L_GAN = log D(x) + log(1 - D(G(z))) + log(1 - D(G(E(x)))), with
L_feat = 1/2 |D_l(x) - D_l(G(E(x)))|^2 (algorithm 1): one forward, three routes.
"""

from gancore import losses, nets
from gancore.adversarial import gan_data
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def vaegan(codes: int = 8, gamma: float = 0.1, prior: float = 1.0, lr: float = 1e-3) -> Recipe:
    """codes: size of z. gamma: weight of the feature distance for the decoder. prior: weight of the KL divergence for the encoder.
    lr: Adam's rate, betas (0.5, 0.999)."""

    def loss(nets: Nets, batch: Batch, state: State) -> Terms:
        mean, log_variance = nets.E.moments(batch["x"])
        decoded, drawn = nets.G(losses.reparametrize(mean, log_variance)), nets.G(batch["z"])
        real, again = nets.D.features(batch["x"]), nets.D.features(decoded)
        return {
            "divergence": losses.kl_gauss(mean, log_variance),
            "features": 0.5 * losses.squared_error(real, again),
            "real": losses.bce(nets.D.score(real), 1),
            "decoded": losses.bce(nets.D.score(again), 0),
            "drawn": losses.bce(nets.D(drawn), 0),
        }

    routes = {
        "E": {"divergence": prior, "features": 1.0},
        "G": {"features": gamma, "decoded": -1.0, "drawn": -1.0},
        "D": {"real": 1.0, "decoded": 1.0, "drawn": 1.0},
    }
    return Recipe(
        nets=lambda spec: _players(spec, codes),
        optims={player: adam(lr) for player in routes},
        stages=[Stage("adversarial", 1.0, [Phase("joint", routes, loss)])],
        data=gan_data(),
        ema=("E", "G"),
        apply=lambda nets, x: nets.E.mode(x),
    )


def _players(spec: DataSpec, codes: int) -> dict:
    return {"E": nets.posterior(spec, codes), "G": nets.generator(spec, latent=codes), "D": nets.critic(spec)}
