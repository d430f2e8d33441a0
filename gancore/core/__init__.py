"""The vocabulary of adversarial training. Recipes are written in it; the loop (`gancore.trainer`) knows nothing else."""

from gancore.core.errors import DataError, Diverged, GancoreError, UsageError
from gancore.core.optim import Optim, adam, rmsprop, sgd
from gancore.core.options import Options
from gancore.core.registry import Entry, demo, metric, recipe
from gancore.core.streams import Data, DataSpec, Draw, Field, Source, classes, device_of, noise
from gancore.core.vocabulary import Batch, Nets, Phase, Recipe, Stage, State, Terms, Weight, generate

__all__ = [
    "Batch", "Data", "DataError", "DataSpec", "Diverged", "Draw", "Entry", "Field", "GancoreError", "Nets", "Optim",
    "Options", "Phase", "Recipe", "Source", "Stage", "State", "Terms", "UsageError", "Weight", "adam", "classes", "demo",
    "device_of", "generate", "metric", "noise", "recipe", "rmsprop", "sgd",
]  # fmt: skip
