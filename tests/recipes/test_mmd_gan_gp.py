"""mmd-gan-gp: 8 modes of ring8 at a share of 0.55; the witness's slope; derivatives of the penalty through the operator.

SYSTEMS has no row for it. The check is between those of its neighbours: a share between cramer-gan's 0.45 and wgan-gp's 0.65 (0.63
to 0.81 in six runs of four seeds), all modes, wgan-gp's slope, here of the witness between data and fakes, and the identity that
the operator's second derivatives are those of stored kernel matrices.
"""

import torch

from gancore.core import DataSpec
from gancore.kernels import kernel_matrix, linear, mmd2, rational_quadratic, witness
from gancore.penalties import gradient_penalty
from gancore.recipes import get
from tests.accept import Clause, at_most, between, ring, seeded

ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)
KERNEL = rational_quadratic(ALPHAS) + linear()


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("mmd-gan-gp", 0.55, seed, modes=8, critic_steps=1, penalty=0.3)
    nets = run.trainer.nets
    with seeded(seed):
        real = run.data.take(torch.randint(len(run.data), (1024,)))["x"]
        fake = nets["G"](torch.randn(1024, nets["G"].latent)).detach()
        points = torch.lerp(fake, real, torch.rand(1024, 1)).requires_grad_()
    features = [nets["D"](t).detach() for t in (real, fake)]
    (slope,) = torch.autograd.grad(witness(nets["D"](points), *features, KERNEL).sum(), points)
    return [
        *clauses,
        between("mean slope of the witness", slope.norm(dim=1).mean().item(), 0.8, 1.2),
        at_most("gradient of the critic's loss, off that of matrices", off_matrices(), 1e-6),
    ]


def setup():
    """The recipe, players and a batch in float64."""
    recipe = get("mmd-gan-gp").function()
    with seeded(0):
        nets = torch.nn.ModuleDict(recipe.nets(DataSpec((2,)))).double()
        nets.G, nets.D = nets["G"], nets["D"]
        batch = {"x": 2 * torch.randn(24, 2), "z": torch.randn(24, nets.G.latent)}
    return recipe.stages[0].phases, nets, {name: t.double() for name, t in batch.items()}


def off_matrices() -> float:
    """Largest difference in the critic's gradient between the recipe and plain PyTorch with whole kernel matrices."""
    (critic, _), nets, batch = setup()
    x, g = batch["x"], nets.G(batch["z"]).detach()
    weights = list(nets.D.parameters())

    def gradient(terms):
        total = sum(weight * terms[name].mean() for name, weight in critic.updates["D"].items())
        return torch.cat([v.flatten() for v in torch.autograd.grad(total, weights)])

    with seeded(2):
        found = gradient(critic.loss(nets, batch, None))
    k = {n: kernel_matrix(nets.D(a), nets.D(b), KERNEL) for n, a, b in (("xx", x, x), ("gg", g, g), ("xg", x, g))}
    within = sum((k[n].sum() - k[n].trace()) / (24 * 23) for n in ("xx", "gg"))

    def through_matrices(t):
        return kernel_matrix(nets.D(t), nets.D(x), KERNEL).mean(1) - kernel_matrix(nets.D(t), nets.D(g), KERNEL).mean(1)

    with seeded(2):
        penalty = gradient_penalty(through_matrices, x, g)
    return (found - gradient({"mmd2": within - 2 * k["xg"].mean(), "penalty": penalty})).abs().max().item()


def test_the_critic_s_gradient_is_that_of_kernel_matrices():
    assert off_matrices() < 1e-9


def test_the_generator_descends_what_the_critic_ascends():
    (critic, generator), nets, batch = setup()
    torch.testing.assert_close(critic.loss(nets, batch, None)["mmd2"], generator.loss(nets, batch, None)["mmd2"])
    assert critic.updates["D"]["mmd2"] == -generator.updates["G"]["mmd2"]


def test_the_value_is_unbiased():
    """Of equal laws, over many small batches, 0; the biased value is far from it."""
    _, nets, _ = setup()
    with seeded(3), torch.no_grad():
        pairs = [(nets.D(torch.randn(8, 2).double()), nets.D(torch.randn(8, 2).double())) for _ in range(200)]
    for estimator, least, most in (("unbiased", 0, 3), ("biased", 10, float("inf"))):
        values = torch.stack([mmd2(a, b, KERNEL, estimator=estimator) for a, b in pairs])
        assert least <= abs(values.mean() / (values.std() / len(values) ** 0.5)) <= most


def test_without_the_linear_kernel_the_witness_is_bounded():
    """Of rational quadratic kernels, each at most 1, it cannot leave [-5, 5]; the linear kernel gives it a slope anywhere."""
    t, x, y = 1e4 * torch.randn(3, 16), torch.randn(9, 16), torch.randn(9, 16) + 1
    assert witness(t, x, y, rational_quadratic(ALPHAS)).abs().max() <= 5
    assert witness(t, x, y, KERNEL).abs().max() > 100
