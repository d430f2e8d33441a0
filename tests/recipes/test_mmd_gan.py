"""mmd-gan: 8 modes of ring8 at a high-quality share of 0.35; the critic raises M; with a linear kernel it is wgan.

|t| + 2 min(t, 0) is t: with one code, M's root |E f(x) - E f(g)| and the order term at weight 2 make up WGAN's gap.
"""

import torch

from gancore.core import DataSpec
from gancore.kernels import gaussian, kernel_matrix, mmd2
from gancore.recipes import get
from gancore.runs import open_run
from tests.accept import Clause, at_least, at_most, ring, seeded

BANDWIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
WGAN = {"kernel": "linear", "codes": 1, "reconstruction": 0.0, "order": 2.0, "generator_order": 2.0}


def accept(seed: int) -> list[Clause]:
    run, clauses = ring("mmd-gan", 0.35, seed, modes=8, steps=1100, clip_value=0.1, reconstruction=1.0)
    nets = run.trainer.nets
    with seeded(seed), torch.no_grad():
        codes = nets["D"].codes(run.data.take(torch.randint(len(run.data), (256,)))["x"]).double()
    lowest = torch.linalg.eigvalsh(kernel_matrix(codes, codes, gaussian(BANDWIDTHS)))[0]
    widest = max(p.abs().max().item() for p in nets["D"].encoder.parameters())
    return [
        *clauses,
        at_most("largest weight of the encoder, of the box", widest / 0.1, 1 + 1e-6),
        at_least("rise of M in 100 steps of the critic alone", growth(seed), 0.1),
        at_least("lowest eigenvalue of the kernel matrix", float(lowest), -1e-6),
        at_most("linear kernel, one code: weights off wgan's after 20 steps", off_wgan(seed, 20), 1e-6),
    ]


def growth(seed: int, steps: int = 100) -> float:
    """By how much the critic alone raises M, at most 10, between fixed samples, G as it starts."""
    trainer = open_run("mmd-gan", data="ring8", batch_size=256, seed=seed, lr=1e-3, clip_value=0.1, reconstruction=1.0).trainer
    stage = trainer.recipe.stages[0]
    critic = stage.phases[0]
    with seeded(seed + 1), torch.no_grad():
        real = trainer.source.take(torch.randint(len(trainer.source), (1024,)))["x"]
        fake = trainer.nets["G"](torch.randn(1024, trainer.nets["G"].latent))

    def distance() -> float:
        with torch.no_grad():
            return float(mmd2(trainer.nets["D"].codes(real), trainer.nets["D"].codes(fake), gaussian(BANDWIDTHS)))

    with torch.no_grad():
        critic.after(trainer.nets, trainer.state, {})  # the first step brings weights into the box, whatever it learns
    before = distance()
    with trainer.random():
        for _ in range(steps):
            trainer._visit(critic, stage)
    return distance() - before


def off_wgan(seed: int, steps: int) -> float:
    """Largest difference of weights between wgan and mmd-gan with a linear kernel, from the same weights on the same batches.

    In float64: the bias of f's last layer has gradient 0, and RMSProp makes full steps of what rounding leaves of it.
    """
    options = {"data": "ring8", "batch_size": 64, "seed": seed, "clip_value": 0.1, "ema": 0.0}
    plain, ours = open_run("wgan", **options).trainer, open_run("mmd-gan", **options, **WGAN).trainer
    ours.nets["G"].load_state_dict(plain.nets["G"].state_dict())
    ours.nets["D"].encoder.load_state_dict(plain.nets["D"].state_dict())
    ours._rng = plain._rng
    for trainer in (plain, ours):
        trainer.nets.double()
        trainer._losses = {name: widened(loss) for name, loss in trainer._losses.items()}
        with trainer.random():
            for _ in range(steps):
                trainer.step()
    pairs = [(plain.nets["G"], ours.nets["G"]), (plain.nets["D"], ours.nets["D"].encoder)]
    gaps = [(p - q).abs().max() for a, b in pairs for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    return max(gap.item() for gap in gaps)


def widened(loss):
    """The loss on float64 batches."""
    return lambda nets, batch, state: loss(nets, {name: t.double() for name, t in batch.items()}, state)


def test_with_a_linear_kernel_and_one_code_it_is_wgan():
    assert off_wgan(0, 3) < 1e-6


def terms(phase: int, **parameters):
    """A phase's terms, the players and the batch, in float64."""
    recipe = get("mmd-gan").function(**parameters)
    with seeded(0):
        nets = torch.nn.ModuleDict(recipe.nets(DataSpec((2,)))).double()
        batch = {"x": 2 * torch.randn(12, 2), "z": torch.randn(12, nets["G"].latent)}
    batch = {name: t.double() for name, t in batch.items()}
    nets.G, nets.D = nets["G"], nets["D"]
    return recipe.stages[0].phases[phase].loss(nets, batch, None), nets, batch["x"], nets.G(batch["z"])


def test_terms_are_the_paper_s():
    found, nets, x, g = terms(0)
    real, fake = nets.D.codes(x), nets.D.codes(g)
    pairs = ((real, real), (fake, fake), (real, fake))
    k = [sum(torch.exp(-(torch.cdist(a, b) ** 2) / (2 * s * s)) for s in BANDWIDTHS) for a, b in pairs]
    torch.testing.assert_close(found["distance"] ** 2, k[0].mean() + k[1].mean() - 2 * k[2].mean())
    torch.testing.assert_close(found["order"], torch.minimum(real.mean(0) - fake.mean(0), torch.zeros(16)).mean())
    errors = [((v - nets.D(v)) ** 2).sum(1).mean() for v in (x, g)]
    torch.testing.assert_close(found["reconstruction"].mean(), errors[0] + errors[1])
    assert set(terms(1)[0]) == {"distance", "order"}


def test_routes_ascend_what_the_generator_descends():
    critic, generator = get("mmd-gan").function().stages[0].phases
    assert critic.updates == {"D": {"distance": -1.0, "order": -16.0, "reconstruction": 8.0}}
    assert generator.updates == {"G": {"distance": 1.0}}
    generator = get("mmd-gan").function(generator_order=16.0).stages[0].phases[1]
    assert generator.updates == {"G": {"distance": 1.0, "order": 16.0}}
    assert critic.repeats == 5


def test_only_the_encoder_is_kept_in_the_box():
    trainer = open_run("mmd-gan", data="ring8", batch_size=16, clip_value=0.001).trainer
    with trainer.random():
        trainer.step()
    encoder, decoder = trainer.nets["D"].encoder, trainer.nets["D"].decoder
    assert max(p.abs().max() for p in encoder.parameters()) <= 0.001
    assert max(p.abs().max() for p in decoder.parameters()) > 0.01
