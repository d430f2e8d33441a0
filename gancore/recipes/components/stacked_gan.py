"""Stacked GAN (SGAN), Huang et al. 2017, arXiv:1612.04357. Generators go down a classifier's layers, each a GAN of its own.

E: x = h_0 -> h_1 -> h_2 = y, trained first, then frozen. G_1(y, z_1) = g_1, G_0(h_1, z_0) = g_0, in the last stage G_0(g_1, z_0).
D_i: max E log s(D_i(h_i)) + E log(1 - s(D_i(g_i))). G_i: min -adversarial E log s(D_i(g_i)) + conditional d(E_i(g_i), what it was
given) - entropy E log Q_i(z_i | g_i), Q_i a normal, a second head of D_i. d: squared error, or cross-entropy for labels.
"""

from torch.nn import functional as F

from gancore import losses
from gancore.core import Batch, Data, DataSpec, Field, Nets, Phase, Recipe, Stage, State, Terms, UsageError, adam, noise, recipe
from gancore.nets.stack import Classifier, Stack, StackCritic, levels


@recipe
def stacked_gan(
    adversarial: float = 1.0, conditional: float = 1.0, entropy: float = 10.0, codes: int = 16, lr: float = 2e-4
) -> Recipe:
    """adversarial, conditional, entropy: the paper's lambdas. codes: size of each z_i. lr: Adam's rate, betas (0.5, 0.999)."""

    def players(spec: DataSpec) -> dict:
        if not spec.classes:
            raise UsageError("stacked-gan goes down a classifier and needs data with labels, the data set has none")
        return {"E": Classifier(spec), "G": Stack(spec, codes), "D": StackCritic(spec, codes)}

    def classify(nets: Nets, batch: Batch, state: State) -> Terms:
        return {"class": F.cross_entropy(nets.E(batch["x"]), batch["y"], reduction="none")}

    def phases(name: str, joint: bool) -> list[Phase]:
        def critic(nets: Nets, batch: Batch, state: State) -> Terms:
            terms = {}
            for level, real, fake, z, _ in levels(nets.E, nets.G, batch, joint):
                (data, _), (score, code) = nets.D[level](real), nets.D[level](fake)
                terms[f"{level} critic"] = losses.non_saturating.critic(data, score)
                terms[f"{level} code"] = (z - code).square().mean(1)
            return terms

        def generator(nets: Nets, batch: Batch, state: State) -> Terms:
            terms = {}
            for level, _, fake, z, distance in levels(nets.E, nets.G, batch, joint):
                score, code = nets.D[level](fake)
                terms[f"{level} generator"] = losses.non_saturating.generator(score)
                terms |= {f"{level} distance": distance, f"{level} code": (z - code).square().mean(1)}
            return terms

        def route(**weights: float) -> dict[str, float]:
            return {f"{level} {term}": w for level in ("upper", "lower") for term, w in weights.items() if w}

        judge, make = route(critic=1.0, code=entropy), route(generator=adversarial, distance=conditional, code=entropy)
        return [Phase(f"{name} critic", {"D": judge}, critic), Phase(f"{name} generator", {"G": make}, generator)]

    first = Stage("classifier", 1.0, [Phase("classifier", {"E": {"class": 1.0}}, classify)])
    stages = [first, *(Stage(name, 2.0, phases(name, name == "joint")) for name in ("independent", "joint"))]
    data: Data = {"x": Field("x"), "y": Field("y"), "z": noise("G")}
    return Recipe(players, {player: adam(lr) for player in "EGD"}, stages, data)
