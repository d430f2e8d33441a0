"""Training steps of recipes as rows of `gancore bench operators`, against the same steps in plain PyTorch."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn import functional as F

from gancore.benchmarks import batch as batch_of
from gancore.benchmarks import timing
from gancore.benchmarks.cases import Refused
from gancore.nets.dcgan import Critic, Generator
from gancore.trainer import Trainer

STEPS = ("dcgan", "wgan-gp", "mmd-gan")
# Of what a step adds to the weights, relative to its norm: Adam's first step takes little more than the sign of a gradient, which
# rounding turns over where it is almost 0.
BOUND = 0.05
# Side of the images, width of the networks, batch.
_SIZES = {"quick": [(16, 16, 32)], "cpu": [(16, 16, 32), (32, 32, 64)], "cuda": [(64, 64, 128)]}
_SECONDS, _QUICK_SECONDS = 3.0, 0.03
_ROUNDS, _QUICK_ROUNDS = (7, 60), (3, 8)


class Plain:
    """The step of "dcgan" or "wgan-gp" written without gancore's operators and loop; weights and batches are a trainer's."""

    def __init__(self, name: str, trainer: Trainer, compiled: bool = False) -> None:
        self.trainer, self.gp = trainer, name == "wgan-gp"
        self.G, self.D = generator(trainer.nets["G"]), critic(trainer.nets["D"])
        self.mean = copy.deepcopy(self.G).requires_grad_(False)
        settings: dict[str, Any] = {"lr": 1e-4, "betas": (0.0, 0.9)} if self.gp else {"lr": 2e-4, "betas": (0.5, 0.999)}
        self.of_g, self.of_d = (torch.optim.Adam(net.parameters(), fused=True, **settings) for net in (self.G, self.D))
        self.averaged, self.present = floats(self.mean), floats(self.G)
        losses = (self.critic_loss, self.generator_loss)
        self.losses = [torch.compile(loss) for loss in losses] if compiled else losses

    def step(self) -> None:
        """Five updates of a critic under WGAN-GP, else one, one of the generator, and its moving average."""
        self.G.requires_grad_(False)
        for _ in range(5 if self.gp else 1):
            batch = self._draw()
            self._update(self.of_d, partial(self.losses[0], batch["x"], batch["z"]))
        self.G.requires_grad_(True)
        batch = self._draw()
        self.D.requires_grad_(False)
        self._update(self.of_g, partial(self.losses[1], batch["z"]))
        self.D.requires_grad_(True)
        torch._foreach_lerp_(self.averaged, [t.detach() for t in self.present], 0.005)

    def critic_loss(self, real: Tensor, z: Tensor) -> Tensor:
        fake = self.G(z)
        if not self.gp:
            return (F.softplus(-self.D(real)) + F.softplus(self.D(fake))).mean()
        score = self.D(torch.cat([real, fake]))
        eps = torch.rand(len(real), device=real.device)[:, None, None, None]
        x = torch.lerp(fake, real, eps).requires_grad_()
        (slope,) = torch.autograd.grad(self.D(x).sum(), x, create_graph=True)
        penalty = (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
        return score[len(real) :].mean() - score[: len(real)].mean() + 10.0 * penalty

    def generator_loss(self, z: Tensor) -> Tensor:
        score = self.D(self.G(z))
        return -score.mean() if self.gp else F.softplus(-score).mean()

    def _draw(self) -> dict[str, Tensor]:
        return self.trainer._draw(self.trainer.recipe.stages[0])

    @staticmethod
    def _update(optim: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
        optim.zero_grad()
        loss().backward()
        optim.step()


def floats(net: nn.Module) -> list[Tensor]:
    """What a moving average is kept of."""
    return [t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]


def generator(net: Generator) -> nn.Sequential:
    """The layers of DCGAN's generator one after another, the weights shared."""
    layers = [m for conv, norm in zip(net.convs, net.norms, strict=True) for m in (conv, norm, nn.ReLU())]
    return nn.Sequential(nn.Unflatten(1, (net.latent, 1, 1)), *layers, net.last, nn.Tanh())


def critic(net: Critic) -> nn.Sequential:
    """The layers of its critic, to scores (N,)."""
    layers = [m for conv, norm in zip(net.tower.convs, net.tower.norms, strict=True) for m in (conv, norm, nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, net.last, nn.Flatten(0))


def measure(name: str, device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """A point for each size of a recipe's step. Refused where the weights after a step are not those of plain PyTorch."""
    for size, width, batch in _SIZES["quick" if quick else device.type]:
        left_out = dict.fromkeys(("compiled", "ours-compiled"), "left out of a quick run") if quick else {}
        if name == "mmd-gan":
            left_out |= dict.fromkeys(("eager", "compiled"), "this step is not written in plain PyTorch here")
        yield _point(name, device, size, width, batch, quick, left_out)


def _point(
    name: str, device: torch.device, size: int, width: int, batch: int, quick: bool, left_out: dict[str, str]
) -> dict[str, Any]:  # fmt: skip
    case = f"step, batch {batch}, {size} x {size}, width {width}"
    point = {"case": case, "shape": f"{batch}", "work": "step", "dtype": "float32"}

    def body(mode: str) -> Callable[[], list[Tensor]]:
        how = "default" if mode == "ours-compiled" else "off"
        trainer = batch_of.trainer_of(name, batch, device, size, width, compile=how)
        step = trainer.step if mode.startswith("ours") else Plain(name, trainer, mode == "compiled").step

        def run() -> list[Tensor]:
            with trainer.random():
                step()
            return [p.detach() for p in trainer.nets.parameters()]

        return run

    torch.compiler.reset()
    start = [p.detach() for p in batch_of.trainer_of(name, batch, device, size, width).nets.parameters()]
    wanted = None if "eager" in left_out else [p.clone() for p in body("eager")()]

    def check(mode: str, found: list[Tensor]) -> dict[str, float]:
        error = off(start, found, wanted)
        if not error <= BOUND and mode.startswith("ours"):
            raise Refused(f"{mode}, {name}: the step's change of the weights is off by {error:.2g}, at most {BOUND:.2g}")
        return {} if wanted is None else {"error": float(f"{error:.3g}")}

    try:
        there = [mode for mode in ("ours", "eager", "compiled", "ours-compiled") if mode not in left_out]
        seconds, rounds = (_QUICK_SECONDS, _QUICK_ROUNDS) if quick else (_SECONDS, _ROUNDS)
        # The compiler's own random numbers are other ones than eager PyTorch's, and a penalty's points would be other points.
        with inductor.patch(fallback_random=True):
            bodies = timing.compare(there, body, check, seconds, left_out, rounds)
        for row in bodies.values():
            row["samples_per_second"] = round(batch / (row["ms"] / 1e3), 1)
        return {**point, "bodies": bodies, "left_out": left_out}
    except Refused as error:
        return {**point, "refused": str(error), "left_out": left_out}


def off(start: Sequence[Tensor], found: Sequence[Tensor], wanted: Sequence[Tensor] | None) -> float:
    """How far `found` is from the wanted weights, relative to how far those went from the start; infinite where a weight is not
    finite. 0 where nothing is wanted."""
    if not all(bool(t.isfinite().all()) for t in found):
        return math.inf
    if wanted is None:
        return 0.0
    pairs = list(zip(start, found, wanted, strict=True))
    squares = lambda parts: sum(float((a.detach().double() - b.detach().double()).square().sum()) for a, b in parts)
    return math.sqrt(squares((b, c) for _, b, c in pairs) / squares((a, c) for a, _, c in pairs))
