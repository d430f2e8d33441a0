"""Variational auto-encoder, Kingma and Welling 2014, arXiv:1312.6114. Squared error and a Gaussian code held to the prior.

-ELBO = KL(q(z|x) || N(0, I)) - E_q log p(x|z), with p(x|z) = N(P(z), scale^2 I) and z drawn by reparametrisation.
"""

from gancore import losses, nets
from gancore.core import Batch, DataSpec, Field, Nets, Phase, Recipe, Stage, State, Terms, adam, recipe


@recipe
def vae(codes: int = 8, scale: float = 0.3, lr: float = 1e-3) -> Recipe:
    """codes: size of z. scale: standard deviation of p(x|z), in units of the data. lr: Adam's rate, betas (0.9, 0.999)."""

    def bound(nets: Nets, batch: Batch, state: State) -> Terms:
        mean, log_variance = nets.E.moments(batch["x"])
        decoded = nets.G(losses.reparametrize(mean, log_variance))
        divergence = losses.kl_gauss(mean, log_variance)
        reconstruction = losses.squared_error(batch["x"], decoded) / (2 * scale**2)
        state.log.update(divergence=divergence.detach().mean(), reconstruction=reconstruction.detach().mean())
        return {"negative-elbo": divergence + reconstruction}

    elbo = {"negative-elbo": 1.0}
    return Recipe(
        nets=lambda spec: _players(spec, codes),
        optims={"E": adam(lr, (0.9, 0.999)), "G": adam(lr, (0.9, 0.999))},
        stages=[Stage("elbo", 1.0, [Phase("elbo", {"E": elbo, "G": elbo}, bound)])],
        data={"x": Field("x")},
        ema=("E", "G"),
        apply=lambda nets, x: nets.E.mode(x),
    )


def _players(spec: DataSpec, codes: int) -> dict:
    return {"E": nets.posterior(spec, codes), "G": nets.generator(spec, latent=codes)}
