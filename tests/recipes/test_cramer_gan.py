"""cramer-gan: 8 modes of ring8 at a share of 0.45 with penalty 1; the energy distance's minibatch gradient is unbiased.

Section 3.2 of the paper: data are Bernoulli(p), the model Bernoulli(q), and a batch holds m of the data. By q the energy distance
2 (p - q)^2 has the gradient 4 (q - p), W1 = |p - q| has sign(q - p); put the batch's share of ones for p, and only the first of the
two is right on average.
"""

import math

import torch

from gancore.core import DataSpec
from gancore.kernels import energy, mmd2
from gancore.recipes import get
from tests.accept import Clause, at_least, between, ring, seeded

P, Q, M = 0.6, 0.5, 6


def accept(seed: int) -> list[Clause]:
    _, clauses = ring("cramer-gan", 0.45, seed, modes=8, penalty=1.0, features=32, critic_steps=1)
    of_energy, of_w1 = errors(seed, 2000)
    return [
        *clauses,
        between("energy distance of N(0,1) and N(1,1), over 0.5418", gaussians(seed) / 0.5418, 0.97, 1.03),
        between("its minibatch gradient: standard errors off", of_energy, -2, 2),
        at_least("that of sample W1: standard errors off", abs(of_w1), 10),
    ]


def gaussians(seed: int) -> float:
    draw = torch.Generator().manual_seed(seed)
    values = [mmd2(torch.randn(2000, 1, generator=draw), 1 + torch.randn(2000, 1, generator=draw), energy()) for _ in range(60)]
    return float(torch.stack(values).mean())


def errors(seed: int, batches: int) -> tuple[float, float]:
    """Standard errors between the mean minibatch gradient and the true one, of the energy distance and of sample W1."""
    draw = torch.Generator().manual_seed(seed)
    outcomes = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found: dict[str, list[float]] = {"energy": [], "w1": []}
    for _ in range(batches):
        q = torch.tensor(Q, dtype=torch.float64, requires_grad=True)
        batch = (torch.rand(M, 1, generator=draw, dtype=torch.float64) < P).double()
        distance = mmd2(batch, outcomes, energy(), estimator="biased", y_weights=torch.stack([1 - q, q]))
        for name, value in (("energy", distance), ("w1", (batch.mean() - q).abs())):
            found[name].append(torch.autograd.grad(value, q)[0].item())
    true = {"energy": 4 * (Q - P), "w1": math.copysign(1, Q - P)}
    return tuple(off(torch.tensor(found[name], dtype=torch.float64), true[name]) for name in ("energy", "w1"))


def off(values: torch.Tensor, true: float) -> float:
    return float((values.mean() - true) / (values.std() / math.sqrt(len(values))))


def test_the_energy_distance_alone_has_an_unbiased_minibatch_gradient():
    of_energy, of_w1 = errors(0, 300)
    assert abs(of_energy) < 3
    assert abs(of_w1) > 5


def setup():
    """The recipe's phases, players and a batch in float64."""
    recipe = get("cramer-gan").function(features=5)
    with seeded(0):
        nets = torch.nn.ModuleDict(recipe.nets(DataSpec((2,)))).double()
        nets.G, nets.D = nets["G"], nets["D"]
        batch = {"x": 2 * torch.randn(7, 2), **{name: torch.randn(7, nets.G.latent) for name in ("z", "others")}}
    return recipe.stages[0].phases, nets, {name: t.double() for name, t in batch.items()}


def test_the_critic_is_the_paper_s_over_all_pairs():
    (critic, _), nets, batch = setup()
    found = critic.loss(nets, batch, None)["critic"]
    h = {"x": nets.D(batch["x"]), "g": nets.D(nets.G(batch["z"])), "others": nets.D(nets.G(batch["others"]))}

    def f(t):
        return torch.stack([(t - other).norm(dim=1) for other in h["others"]]).mean(0) - t.norm(dim=1)

    torch.testing.assert_close(found, f(h["g"]) - f(h["x"]))


def test_the_generator_s_is_the_paper_s_up_to_what_it_cannot_change():
    (_, generator), nets, batch = setup()
    x, g = nets.D(batch["x"]), nets.D(nets.G(batch["z"]))
    across = torch.stack([(x[i] - g[j]).norm() for i in range(7) for j in range(7)])
    within = torch.stack([(g[i] - g[j]).norm() for i in range(7) for j in range(7) if i != j])
    wanted = 2 * across.mean() - within.mean()
    weights = list(nets.G.parameters())
    of_wanted = torch.autograd.grad(wanted, weights)
    found = torch.autograd.grad(generator.loss(nets, batch, None)["energy"], weights)
    for a, b in zip(found, of_wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_the_penalty_sees_the_other_fakes():
    """f is a function of x between h(g') and the origin: its slope moves with g'."""
    (critic, _), nets, batch = setup()
    values = []
    for scale in (1.0, 5.0):
        with seeded(1):
            values.append(critic.loss(nets, {**batch, "others": scale * batch["others"]}, None)["penalty"])
    assert not torch.allclose(*values)
