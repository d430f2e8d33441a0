"""Gang of GANs, Juefei-Xu et al. 2017, arXiv:1704.04865. Stages of GANs, each held to half the margin that the last one left.

Stage i, epsilon_i = margin / 2^(i - 1): D_i: min E [D_i(G_i(z)) - D_i(x) + epsilon_i]_+ + ranking E [D_i(G_i-1(z)) - D_i(x) +
2 epsilon_i]_+ (from stage 2 on), weights in a box; G_i: max E D_i(G_i(z)). Each pair starts from the one before it, which stays.
"""

from torch import Tensor
from torch.nn import functional as F

from gancore import losses, nets
from gancore.adversarial import scores
from gancore.core import Batch, Data, DataSpec, Field, Nets, Phase, Recipe, Stage, State, Terms, generate, noise, recipe, rmsprop
from gancore.regularizers import clip_weights


@recipe
def gogan(
    stages: int = 3, margin: float = 1.0, ranking: float = 1.0, clip_value: float = 0.01, critic_steps: int = 5, lr: float = 5e-5
) -> Recipe:
    """stages: how many pairs. margin: of the first stage. ranking: weight of that term. clip_value: the weight box. critic_steps:
    critic updates for each one of G. lr: RMSProp's rate."""

    def stage(i: int) -> Stage:
        G, D, epsilon = f"G{i}", f"D{i}", margin / 2 ** (i - 1)

        def critic(nets: Nets, batch: Batch, state: State) -> Terms:
            real, fake = scores(nets[D], batch["x"], nets[G](batch["z"]))
            terms = {"margin": F.relu(fake - real + epsilon)}
            if i > 1:
                terms["ranking"] = F.relu(nets[D](nets[f"G{i - 1}"](batch["z"])) - real + 2 * epsilon)
            return terms

        def generator(nets: Nets, batch: Batch, state: State) -> Terms:
            return {"generator": losses.wasserstein.generator(nets[D](nets[G](batch["z"])))}

        def enter(nets: Nets, state: State) -> None:
            state.stage.fill_(i)
            for kind in ("G", "D") if i > 1 else ():
                nets[f"{kind}{i}"].load_state_dict(nets[f"{kind}{i - 1}"].state_dict())

        route = {"margin": 1.0, **({"ranking": ranking} if i > 1 else {})}
        phases = [
            Phase(f"critic {i}", {D: route}, critic, repeats=critic_steps, after=clip_weights(D, clip_value)),
            Phase(f"generator {i}", {G: {"generator": 1.0}}, generator),
        ]
        return Stage(f"stage {i}", 1.0, phases, enter=enter)

    def players(spec: DataSpec) -> dict:
        return {name: net for i in numbers for name, net in zip((f"G{i}", f"D{i}"), nets.gan(spec).values(), strict=True)}

    def sample(nets: Nets, n: int, state: State) -> Tensor:
        return generate(Nets({"G": nets[f"G{int(state.stage)}"]}), n, state)

    numbers = range(1, stages + 1)
    optims = {f"{kind}{i}": rmsprop(lr) for kind in ("G", "D") for i in numbers}
    data: Data = {"x": Field("x"), "z": noise("G1")}
    averaged = [f"G{i}" for i in numbers]
    return Recipe(players, optims, [stage(i) for i in numbers], data, lambda: State(stage=1.0), averaged, sample)
