"""Gradient penalties of critics."""

from gancore.penalties.gradient import gradient_penalty
from gancore.penalties.points import Inputs as Inputs
from gancore.penalties.points import Place as Place
from gancore.penalties.step import critic_step

__all__ = ["critic_step", "gradient_penalty"]
