"""Gradient penalties of critics."""

from gancore.penalties.gradient import gradient_penalty
from gancore.penalties.points import Inputs as Inputs
from gancore.penalties.points import Place as Place

__all__ = ["gradient_penalty"]
