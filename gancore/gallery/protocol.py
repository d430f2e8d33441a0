"""What the gallery runs: data sets, options that all recipes share, and settings of single recipes."""

from typing import Any

from gancore.core import Entry, UsageError

_RING = {"net": "toy", "batch_size": 256, "ema": 0.995, "schedule": "linear"}
# Convolutions: an MLP without batch normalisation shows little of the plain games after so few steps on digits.
_DIGITS = {"net": "dcgan", "width": 16, "batch_size": 64, "ema": 0.995, "schedule": "linear"}

OPTIONS: dict[str, dict[str, Any]] = {"ring8": _RING, "grid25": _RING, "digits8": _DIGITS}
STEPS = {"ring8": 1200, "grid25": 1200, "digits8": 600}
DATA = ("ring8", "digits8")
RATE = 1e-3
_TICKS, _SAVES = 60, 6

# Defaults are those of the papers, which train on larger images. Where they do not suit so small a task, the settings are those of
# the recipe's acceptance check, and on digits critics that compare all pairs of a batch learn once a step.
_PLANE: dict[str, dict[str, Any]] = {
    "cramer-gan": {"penalty": 1.0, "features": 32, "critic_steps": 1},
    "dragan": {"penalty": 0.1, "noise": 0.3},
    "fisher-gan": {"rho": 1e-2},
    "gogan": {"clip_value": 0.1},
    "gmmn": {"bandwidths": (0.1, 0.25, 0.5, 1.0, 2.0)},
    "ipm-fm": {"lr": 5e-4},
    "mad-gan-sim": {"generators": 2, "weight": 0.5},
    "mcgan": {"clip_value": 0.02, "lr": 5e-4},
    "mmd-gan": {"clip_value": 0.1, "reconstruction": 1.0},
    "mmd-gan-gp": {"critic_steps": 1, "penalty": 0.3},
    "r1-gan": {"gamma": 0.1},
    "r3gan": {"gamma": 0.1},
    "rwgan": {"low": 0.05, "high": 0.1},
    "sn-gan": {"critic_steps": 3},
    "unrolled": {"rate": 0.03},
    "wgan": {"clip_value": 0.1, "lr": 5e-4},
    "wgan-gp": {"penalty": 1.0, "critic_steps": 3},
    "wgan-lp": {"penalty": 1.0, "critic_steps": 3},
}
_IMAGES: dict[str, dict[str, Any]] = {
    "aae": {"codes": 8, "prior": 0.5},
    "began": {"balance": 0.9, "gain": 0.1, "exponent": 2, "lr": 2e-3},
    "cramer-gan": {"features": 32, "critic_steps": 1},
    "mmd-gan": {"critic_steps": 1},
    "mmd-gan-gp": {"critic_steps": 1},
}
SETTINGS = {"ring8": _PLANE, "grid25": _PLANE, "digits8": _IMAGES}


def arguments(entry: Entry, data: str, steps: int = 0) -> dict[str, Any]:
    """What `gancore.train` is given beside the recipe's id: the options that all share, one learning rate, the recipe's settings.

    steps: 0 for the data set's own budget. Raises UsageError for a data set that the gallery does not know.
    """
    if data not in OPTIONS:
        raise UsageError(f"the gallery shows {', '.join(OPTIONS)}, got {data!r}")
    steps = steps or STEPS[data]
    rate = {"lr": RATE} if "lr" in entry.parameters() else {}
    ticks = {"log_every": max(1, steps // _TICKS), "save_every": max(2, steps // _SAVES)}
    shared = {"data": data, "steps": steps, "device": "cpu", **OPTIONS[data], **ticks}
    return {**shared, **rate, **SETTINGS[data].get(entry.id, {})}
