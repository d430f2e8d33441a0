"""MMD GAN, Li et al. 2017, arXiv:1705.08584. The kernel of a moment matching network is learnt, on the codes of an auto-encoder.

D (encoder f, decoder r): max sqrt M(f(x), f(g)) - reconstruction E(|x - r(f(x))|^2 + |g - r(f(g))|^2) + order mean min(E f(x) -
E f(g), 0) with f's weights in a box; G: min sqrt M + generator_order mean min(...). M is the biased squared MMD.
"""

from typing import Any, Literal

from torch import Tensor

from gancore import losses, nets
from gancore.adversarial import gan_data, scores
from gancore.core import Batch, DataSpec, Nets, Phase, Recipe, Stage, State, Terms, recipe, rmsprop
from gancore.kernels import gaussian, linear, mmd2
from gancore.regularizers import clip_weights


@recipe
def mmd_gan(
    bandwidths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0), kernel: Literal["gaussian", "linear"] = "gaussian", codes: int = 16,
    reconstruction: float = 8.0, order: float = 16.0, generator_order: float = 0.0, clip_value: float = 0.1,
    critic_steps: int = 5, lr: float = 5e-5,
) -> Recipe:  # fmt: skip
    """bandwidths: of the Gaussian kernels. kernel: "linear", with codes=1, reconstruction=0 and both orders 2, is WGAN.
    codes: size of f's output. reconstruction, order: the paper's lambda_AE and lambda_rg. generator_order: lambda_rg for G, in the
    formula the same; but there G gains without bound from fakes that D ranks above data, and on ring8 it ran off to infinity.
    clip_value: the box of f's weights, 0.01 in the paper; there the codes of an MLP shrink until float32 tells no two apart.
    critic_steps: updates of D for each one of G. lr: RMSProp's rate."""
    values = gaussian(bandwidths) if kernel == "gaussian" else linear()

    def compare(real: Tensor, fake: Tensor) -> Terms:
        square = mmd2(real, fake, values, estimator="biased")
        return {"distance": losses.root(square), "order": (real.mean(0) - fake.mean(0)).clamp(max=0).mean()}

    def critic(nets: Nets, batch: Batch, state: State) -> Terms:
        x, g = batch["x"], nets.G(batch["z"])
        real, fake = scores(nets.D.encoder, x, g)
        again = zip((x, g), scores(nets.D.decoder, real, fake), strict=True)
        return {**compare(real, fake), "reconstruction": sum(losses.squared_error(v, back) for v, back in again)}  # type: ignore[dict-item]

    def generator(nets: Nets, batch: Batch, state: State) -> Terms:
        return compare(*scores(nets.D.encoder, batch["x"], nets.G(batch["z"])))

    descent = {"distance": 1.0, **({"order": generator_order} if generator_order else {})}
    ascent = {"distance": -1.0, "order": -order, "reconstruction": reconstruction}
    clip = clip_weights("D", clip_value, "encoder")
    phases = [
        Phase("critic", {"D": ascent}, critic, repeats=critic_steps, after=clip, whole_batch=True),
        Phase("generator", {"G": descent}, generator, whole_batch=True),
    ]
    optims = {"G": rmsprop(lr), "D": rmsprop(lr)}
    return Recipe(lambda spec: _players(spec, codes), optims, [Stage("adversarial", 1.0, phases)], gan_data())


def _players(spec: DataSpec, codes: int) -> dict:
    shallow: dict[str, Any] = {"depth": 1} if spec.net == "toy" else {}
    return {
        "G": nets.generator(spec),
        "D": nets.Autoencoder(nets.encoder(spec, codes), nets.generator(spec, latent=codes, **shallow)),
    }
