"""Checks of f-GANs in one dimension: the bound that a trained critic attains, and what one normal law makes of two modes."""

import math
from dataclasses import replace

import torch

from gancore import data
from gancore.core import DataSpec, Options, noise
from gancore.divergences import Divergence
from gancore.recipes import get
from gancore.trainer import Trainer
from tests.accept import critic_alone

# D_f(N(0, 1)|N(1, 1)); those without a closed form by quadrature, to four digits.
EXACT = {
    "kl": 0.5, "reverse-kl": 0.5, "pearson": math.e - 1, "neyman": math.e - 1, "hellinger": 2 - 2 * math.exp(-1 / 8), "tv": 0.3829,
    "jeffreys": 1.0, "js": 0.2228, "gan": -1.1635,
}  # fmt: skip


def bound(name: str, law: Divergence, seed: int, steps: int = 2000, **parameters: object) -> float:
    """Of D_f(N(0, 1)|N(1, 1)), from the recipe's critic trained on samples: by quadrature, so without sampling error of its own."""
    trainer = critic_alone(get(name).function(lr=1e-3, **parameters), mean=1.0, seed=seed, steps=steps)
    x = torch.linspace(-7, 8, 30_001, dtype=torch.float64)
    with torch.no_grad():
        score = trainer.nets["D"].double()(x.unsqueeze(1))
    data_law, model = ((-((x - mean) ** 2) / 2).exp() / (2 * torch.pi) ** 0.5 for mean in (0.0, 1.0))
    return float(torch.trapezoid(data_law * law.output(score) - model * law.cost(score), x))


class Normal(torch.nn.Module):
    """A generator mean + exp(log_scale) z of one number."""

    latent, classes = 1, 0

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean, self.log_scale = torch.nn.Parameter(torch.tensor(mean)), torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.mean + self.log_scale.exp() * z


def width_on_two_modes(name: str, seed: int, start: float, steps: int = 1500, **parameters: object) -> float:
    """Standard deviation of the normal law that the recipe fits to N(-3, 0.7^2) and N(3, 0.7^2) in equal shares.

    start: its mean at first. Midway between the modes reverse KL has a saddle, wide as KL's optimum, that is slow to leave.
    """
    recipe = get(name).function(lr=2e-3, critic_steps=5, **parameters)
    nets = lambda spec: {**recipe.nets(spec), "G": Normal(start)}
    alone = replace(recipe, nets=nets, data={**recipe.data, "z": noise("G")}, ema=())
    options = Options(steps=steps, batch_size=512, seed=seed, schedule="linear")
    trainer = Trainer(alone, data.load("bimodal1d"), options, DataSpec((1,)), torch.device("cpu"))
    with trainer.random():
        for _ in range(steps):
            trainer.step()
    return trainer.nets["G"].log_scale.exp().item()
