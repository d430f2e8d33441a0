"""vae: DIG(20, 9); the bound stays below the importance-weighted one; samples are blurred: their pixel deviation is given."""

import math

import torch

from gancore import losses
from gancore.runs import Run
from tests.accept import Clause, at_least, at_most, dig, seeded

SETTINGS = {"codes": 8, "lr": 1e-3}


def accept(seed: int) -> list[Clause]:
    run, clauses = dig("vae", 20, 9, seed, **SETTINGS)
    with seeded(seed):
        gap = importance_bound(run) - evidence_bound(run)
    return [
        *clauses,
        at_least("importance-weighted bound (K=50) above the ELBO, nats", gap, 0),
        at_most("pixel deviation of samples (digits: 0.230)", pixel_deviation(run), 0.23),
    ]


def pixel_deviation(run: Run) -> float:
    """Mean over pixels of the deviation over samples, pixels in [0, 1]."""
    return (run.sample(1797) / 2).std(0).mean().item()


def _log_weights(run: Run, draws: int) -> torch.Tensor:
    """log p(x, z) - log q(z | x), (draws, N), z from q, constants of p(x | z) left out of both bounds."""
    nets, scale = run.nets, run.parameters["scale"]
    x = run.data.take(torch.arange(256))["x"]
    with torch.no_grad():
        mean, log_variance = nets["E"].moments(x)
        rows = []
        for _ in range(draws):
            z = losses.reparametrize(mean, log_variance)
            likelihood = -losses.squared_error(x, nets["G"](z)) / (2 * scale**2)
            prior = -0.5 * (z**2).sum(1)
            posterior = -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance).sum(1)
            rows.append(likelihood + prior - posterior)
    return torch.stack(rows)


def importance_bound(run: Run) -> float:
    weights = _log_weights(run, 50)
    return (weights.logsumexp(0) - math.log(len(weights))).mean().item()


def evidence_bound(run: Run) -> float:
    return _log_weights(run, 50).mean().item()


def test_terms_add_up_to_the_negative_elbo():
    """With q = prior and a perfect decoder both terms vanish; the KL term is the closed form."""
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    assert losses.kl_gauss(mean, log_variance).item() == 0.5
    assert losses.kl_gauss(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0
