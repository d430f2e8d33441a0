"""label-smoothing: RING(0.70); on a frozen generator the best D is (a p_d + b p_g) / (p_d + p_g), at most 0.9."""

import torch

from gancore import losses
from gancore.recipes import get
from tests.accept import Clause, at_most, between, critic_alone, ring


def accept(seed: int) -> list[Clause]:
    # Laws so far apart that the best D comes within a thousandth of its bound where there still are samples.
    x = torch.linspace(-2, 5, 141)
    trainer = critic_alone(get("label-smoothing").function(lr=1e-3), mean=3.0, seed=seed)
    with torch.no_grad():
        found = trainer.nets["D"](x.unsqueeze(1)).sigmoid()
    best = 0.9 * (4.5 - 3 * x).sigmoid()  # p_d / (p_d + p_g) of N(0, 1) and N(3, 1)
    return [
        *ring("label-smoothing", 0.70, seed)[1],
        between("largest D on N(0,1) against N(3,1)", found.max().item(), 0.88, 0.92),
        at_most("largest error of D on [-2, 5]", (found - best).abs().max().item(), 0.05),
    ]


def test_the_critic_is_least_at_the_smoothed_share():
    """Where data and fakes are equally likely, D's loss is least at (a + b) / 2."""
    for a, b in ((0.9, 0.0), (0.9, 0.1)):
        pair = get("label-smoothing").function(real=a, fake=b).stages[0].phases[0].loss
        logits = torch.logit(torch.linspace(0.01, 0.99, 9801))
        nets = torch.nn.ModuleDict({"D": torch.nn.Identity(), "G": torch.nn.Identity()})
        loss = pair(nets, {"x": logits, "z": logits}, None)["critic"]
        assert abs(logits[loss.argmin()].sigmoid().item() - (a + b) / 2) < 1e-3


def test_without_smoothing_it_is_gan_ns():
    x, g = torch.randn(8), torch.randn(8)
    torch.testing.assert_close(losses.bce(x, 1.0) + losses.bce(g, 0.0), losses.non_saturating.critic(x, g))
