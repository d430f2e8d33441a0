"""Options of the loop: how a recipe is run, whatever it is. Their names are never names of a recipe's parameters."""

from dataclasses import dataclass, fields
from typing import Any

from gancore.core.errors import UsageError

AUTO = -(2**31)  # "auto" as a batch_size or micro_batch, no number that anyone types; a run resolves it before its trainer is built
_CHOICES = {
    "net": ("auto", "toy", "dcgan"),
    "precision": ("fp32", "bf16", "fp16"),
    "compile": ("auto", "off", "default", "reduce-overhead", "max-autotune"),
    "schedule": ("constant", "linear", "cosine"),
    "lr_scaling": ("none", "linear", "sqrt"),
}


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    data: a set by name, or a path to IDX, CIFAR-10, .npy / .npz files or a folder of images.
    size: side in pixels that images are brought to, 0 as they are.
    net: body of the networks; "auto" is "toy" (MLP) for vectors and images up to 8x8, else "dcgan".
    width: base width of that body, 0 for its default.
    steps: visits to every phase of the current stage.
    batch_size: samples per update; "auto" is the most that fit into `memory`, found before the first step.
    micro_batch: samples per forward pass, 0 for all of them; fewer accumulate gradients. "auto" is the most that fit.
    memory: GB (10^9 bytes) that "auto" may fill, 0 for what is free on the device.
    recompute: keep each player's input alone for the backward pass and run the player again in it (activation checkpointing):
        more time, fewer activations.
    lr_scaling: how learning rates, which recipes state for batches of `lr_batch`, follow the batch size: not, linearly, or with
        its square root.
    lr_batch: the batch size at which lr_scaling changes nothing.
    seed: of weights, noise and the order of the data.
    out: folder of the run; one that holds a run is refused unless resumed.
    device: "auto", "cpu", "cuda", "cuda:1" ...
    precision: "fp32", or autocast to "bf16" or "fp16" (with a loss scaler for each optimiser).
    compile: torch.compile mode of every phase's loss; "reduce-overhead" uses CUDA graphs. "auto" is "off" on a CPU and for runs
        under 2,000 steps.
    ema: decay of the moving average of the generator, 0 for none.
    schedule: learning rate over the run: constant, linear down to 5 %, cosine down to 0.
    clip: largest gradient norm of a player, 0 for none.
    log_every: steps between log lines.
    save_every: steps between checkpoints with samples and metrics, 0 for a tenth of the run.
    resume: go on with the run in `out`, under its own options.
    """

    data: str = "digits"
    size: int = 0
    net: str = "auto"
    width: int = 0
    steps: int = 2000
    batch_size: int = 64
    micro_batch: int = 0
    memory: float = 0.0
    recompute: bool = False
    lr_scaling: str = "none"
    lr_batch: int = 64
    seed: int = 0
    out: str = ""
    device: str = "auto"
    precision: str = "fp32"
    compile: str = "auto"
    ema: float = 0.995
    schedule: str = "constant"
    clip: float = 0.0
    log_every: int = 50
    save_every: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("steps", "lr_batch", "log_every", *(() if self.batch_size == AUTO else ("batch_size",))):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("size", "width", "memory", "clip", "save_every", *(() if self.micro_batch == AUTO else ("micro_batch",))):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must lie in [0, 1), got {self.ema}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(f.name for f in fields(cls))

    @property
    def saving(self) -> int:
        """Steps between checkpoints, the default resolved."""
        return self.save_every or max(1, self.steps // 10)

    @property
    def lr_factor(self) -> float:
        """What every learning rate is multiplied by (linear: Goyal et al. 2017, arXiv:1706.02677; root: Krizhevsky 2014)."""
        power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[self.lr_scaling]
        return float((self.batch_size / self.lr_batch) ** power)

    def changed(self, other: "Options") -> dict[str, tuple[Any, Any]]:
        """Options that differ: name -> (here, there)."""
        pairs = {n: (getattr(self, n), getattr(other, n)) for n in self.names()}
        return {n: p for n, p in pairs.items() if p[0] != p[1]}
