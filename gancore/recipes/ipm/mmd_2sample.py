"""Two-sample test by kernel mean embedding, Gretton et al. 2012, JMLR 13:723. Unbiased MMD^2 of N(0, 1) and N(mean, 1).

MMD^2 = E k(x, x') - 2 E k(x, y) + E k(y, y') is 2 h / sqrt(h^2 + 2) (1 - exp(-mean^2 / (2 h^2 + 4))) for the kernel
k = exp(-d^2 / (2 h^2)); h = 1 / sqrt(2) gives exp(-d^2).
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from gancore.core import demo
from gancore.figures import diagram
from gancore.kernels import Kernel, gaussian, mmd2, mmd_test


@demo
def mmd_2sample(
    mean: float = 1.0, bandwidth: float = 1.0, samples: int = 200, draws: int = 400, tests: int = 40, permutations: int = 199,
    stream: int = 0,
) -> tuple[dict[str, float], Any]:  # fmt: skip
    """mean: of the second sample. bandwidth: h. samples: size of each. draws: pairs of samples, half the figures' precision for a
    quarter of them. tests: permutation tests of level 0.05. permutations: of each test. stream: seeds the draws."""
    generator = Generator().manual_seed(stream)

    def statistics(kernel: Kernel, shift: float) -> Tensor:
        return torch.stack([mmd2(*_pair(samples, shift, generator), kernel) for _ in range(draws)]).double()

    kernel = gaussian(bandwidth)
    shifted, survey, same = statistics(kernel, mean), statistics(gaussian(math.sqrt(0.5)), mean), statistics(kernel, 0.0)
    found = [mmd_test(*_pair(samples, mean, generator), kernel, permutations, generator).p_value for _ in range(tests)]
    exact = _closed_form(bandwidth, mean)
    figures = {
        "mmd2": float(shifted.mean()), "closed form": exact,
        "mmd2, kernel exp(-d^2)": float(survey.mean()), "closed form, kernel exp(-d^2)": _closed_form(math.sqrt(0.5), mean),
        "equal laws: mean in standard errors": float(same.mean() / (same.std() / math.sqrt(draws))),
        "power at level 0.05": sum(p <= 0.05 for p in found) / tests,
    }  # fmt: skip
    return figures, _drawing(same, shifted, exact)


def _pair(n: int, mean: float, generator: Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, generator=generator), mean + torch.randn(n, 1, generator=generator)


def _closed_form(h: float, mean: float) -> float:
    return 2 * h / math.sqrt(h * h + 2) * (1 - math.exp(-mean * mean / (2 * h * h + 4)))


def _drawing(same: Tensor, shifted: Tensor, exact: float) -> Any:
    def draw(axes: Any) -> None:
        axes.hist([same.tolist(), shifted.tolist()], bins=60, histtype="stepfilled", alpha=0.7, label=["equal laws", "shifted"])
        axes.axvline(exact, color="black", linestyle="--", label="closed form")

    return diagram(draw, "unbiased MMD$^2$", "draws")
