"""gan-ns: RING(0.75); where D(g) = 1e-3 the generator's logit gradient is 0.999, and 0.001 in the minimax form."""

import math

import pytest
import torch

from gancore import losses
from tests.accept import Clause, ring


def accept(seed: int) -> list[Clause]:
    return ring("gan-ns", 0.75, seed)[1]


@pytest.mark.parametrize(("pair", "expected"), [(losses.non_saturating, 0.999), (losses.minimax, 0.001)])
def test_gradient_where_the_critic_is_sure(pair, expected):
    logit = torch.tensor(math.log(1e-3 / (1 - 1e-3)), dtype=torch.float64, requires_grad=True)
    pair.generator(logit).backward()
    assert logit.grad.abs().item() == pytest.approx(expected, rel=1e-9)
