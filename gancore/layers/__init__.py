"""Layers that networks share, and convolutions that run with what follows them as one operator."""

from gancore.layers.basic import (
    ConditionalBatchNorm,
    Direction,
    Frames,
    MinibatchDiscrimination,
    MinibatchStddev,
    OneHot,
    spectral,
)
from gancore.layers.fused import (
    ConvBiasAct1d,
    ConvBiasAct2d,
    ConvBiasAct3d,
    ConvTransposeBNAct1d,
    ConvTransposeBNAct2d,
    ConvTransposeBNAct3d,
    ConvTransposeChain,
)
from gancore.layers.units import Unit, run

__all__ = [
    "ConditionalBatchNorm",
    "ConvBiasAct1d",
    "ConvBiasAct2d",
    "ConvBiasAct3d",
    "ConvTransposeBNAct1d",
    "ConvTransposeBNAct2d",
    "ConvTransposeBNAct3d",
    "ConvTransposeChain",
    "Direction",
    "Frames",
    "MinibatchDiscrimination",
    "MinibatchStddev",
    "OneHot",
    "Unit",
    "run",
    "spectral",
]
