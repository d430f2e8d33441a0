"""Gradient penalties of critics."""

from gancore.penalties.gradient import Inputs as Inputs
from gancore.penalties.gradient import Place as Place
from gancore.penalties.gradient import gradient_penalty

__all__ = ["gradient_penalty"]
