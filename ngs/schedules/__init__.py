"""Sequences of momentum and step size: ``schedule(t)`` is the coefficient of step t = 0, 1, ...

Each is a small frozen dataclass, so it prints, compares and pickles. They rest on the standard
library and :mod:`ngs.methods`; bad parameters raise :class:`ngs.errors.InputError`.
"""

from ngs.schedules.kinds import Momentum, Schedule, VectorSchedule, coefficients_at
from ngs.schedules.momentum import (
    ChambolleDossalMomentum,
    NesterovMomentum,
    SimplifiedMomentum,
    StronglyConvexMomentum,
    SutskeverMomentum,
    nesterov_lambda,
)
from ngs.schedules.several import (
    AnchorMomentum,
    ConvexAnchor,
    OptimizedCoefficients,
    OptimizedMomentum,
    StronglyConvexAnchor,
    TripleCoefficients,
    TripleMomentum,
)
from ngs.schedules.shapes import (
    Capped,
    Chain,
    Constant,
    Cosine,
    Linear,
    OneCycle,
    Product,
    WarmupCosine,
)

__all__ = [
    "AnchorMomentum",
    "Capped",
    "Chain",
    "ChambolleDossalMomentum",
    "Constant",
    "ConvexAnchor",
    "Cosine",
    "Linear",
    "Momentum",
    "NesterovMomentum",
    "OneCycle",
    "OptimizedCoefficients",
    "OptimizedMomentum",
    "Product",
    "Schedule",
    "SimplifiedMomentum",
    "StronglyConvexAnchor",
    "StronglyConvexMomentum",
    "SutskeverMomentum",
    "TripleCoefficients",
    "TripleMomentum",
    "VectorSchedule",
    "WarmupCosine",
    "coefficients_at",
    "nesterov_lambda",
]
