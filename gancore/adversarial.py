"""The two standard phases: a critic against a generator, for any score loss, with terms of their own added by name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gancore import nets as bodies
from gancore.core import Batch, Data, DataSpec, Draw, Field, Nets, Optim, Phase, Recipe, Stage, State, Terms, Weight, classes, noise
from gancore.losses import Pair

CriticTerm = Callable[..., Tensor]  # (critic, real, fake, conditions=...) -> (N,) or scalar
GeneratorTerm = Callable[[Nets, Batch, Tensor], Tensor]  # (nets, batch, fake) -> (N,) or scalar


def adversarial(
    loss: Pair,
    optim: Optim | Mapping[str, Optim],
    *,
    nets: Callable[[DataSpec], Mapping[str, torch.nn.Module]] = bodies.gan,
    critic_steps: int = 1,
    critic_terms: Mapping[str, tuple[Weight, CriticTerm]] | None = None,
    generator_terms: Mapping[str, tuple[Weight, GeneratorTerm]] | None = None,
    after_critic: Callable[[Nets, State, Terms], None] | None = None,
    conditional: bool = False,
) -> Recipe:
    """A recipe of players G and D: `critic_steps` updates of D on fresh batches, then one of G.

    loss: the pair that both descend, as terms "critic" and "generator".
    optim: one for both players, or a mapping with "G" and "D".
    critic_terms, generator_terms: further terms, name -> (weight, function).
    conditional: batches carry the labels "y" of data and "c" drawn for fakes; both players are given them.
    """
    critic_terms, generator_terms = dict(critic_terms or {}), dict(generator_terms or {})

    def critic_loss(nets: Nets, batch: Batch, state: State) -> Terms:
        real, fake = batch["x"], fakes(nets, batch)
        real_y, fake_y = (batch["y"], batch["c"]) if conditional else (None, None)
        terms = {"critic": loss.critic(*scores(nets["D"], real, fake, real_y, fake_y))}
        given = {"conditions": (real_y,)} if conditional else {}
        for name, (_, term) in critic_terms.items():
            terms[name] = term(nets["D"], real, fake, **given)
        return terms

    def generator_loss(nets: Nets, batch: Batch, state: State) -> Terms:
        fake = fakes(nets, batch)
        if loss.paired:
            real, score = scores(nets["D"], batch["x"], fake, *((batch["y"], batch["c"]) if conditional else ()))
            terms = {"generator": loss.generator(score, real)}
        else:
            terms = {"generator": loss.generator(nets["D"](fake, batch["c"]) if conditional else nets["D"](fake))}
        for name, (_, extra) in generator_terms.items():
            terms[name] = extra(nets, batch, fake)
        return terms

    def fakes(nets: Nets, batch: Batch) -> Tensor:
        return nets["G"](batch["z"], batch["c"]) if conditional else nets["G"](batch["z"])

    critic = Phase(
        "critic",
        {"D": {"critic": 1.0, **{name: weight for name, (weight, _) in critic_terms.items()}}},
        critic_loss,
        repeats=critic_steps,
        after=after_critic,
    )
    generator = Phase(
        "generator", {"G": {"generator": 1.0, **{name: weight for name, (weight, _) in generator_terms.items()}}}, generator_loss
    )
    optims = {"G": optim, "D": optim} if isinstance(optim, Optim) else optim
    return Recipe(nets, optims, [Stage("adversarial", 1.0, [critic, generator])], data=gan_data(conditional))


def gan_data(conditional: bool = False) -> Data:
    """Batches of data "x" and noise "z"; conditional ones also of labels "y" of the data and "c" for the fakes."""
    labels: dict[str, Field | Draw] = {"y": Field("y"), "c": classes("G")} if conditional else {}
    return {"x": Field("x"), "z": noise("G"), **labels}


def scores(
    critic: torch.nn.Module, real: Tensor, fake: Tensor, real_y: Tensor | None = None, fake_y: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The critic's scores (N,) of both batches, in one pass unless batch statistics would mix them (Radford et al. 2016)."""
    if getattr(critic, "separate", True) or len(real) != len(fake):
        given_real, given_fake = ((real_y,), (fake_y,)) if real_y is not None else ((), ())
        return critic(real, *given_real), critic(fake, *given_fake)
    both = torch.cat([real, fake])
    score = critic(both, torch.cat([real_y, fake_y])) if real_y is not None and fake_y is not None else critic(both)
    return score[: len(real)], score[len(real) :]
