"""Scores of samples against data: one file, one function, one id each.

Every score takes features (N, D), or images (N, C, H, W) in [-1, 1] with `network=`, the frozen network that judges them.
"""

from gancore.metrics._inputs import FeatureNetwork, Score
from gancore.metrics.fid import fid, frechet_distance
from gancore.metrics.inception_score import inception_score
from gancore.metrics.kid import kid, polynomial_mmd2
from gancore.metrics.modes import Modes, modes
from gancore.metrics.precision_recall import PrecisionRecall, precision_recall

__all__ = [
    "FeatureNetwork", "Modes", "PrecisionRecall", "Score", "fid", "frechet_distance", "inception_score", "kid", "modes",
    "polynomial_mmd2", "precision_recall",
]  # fmt: skip
