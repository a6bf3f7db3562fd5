"""Proved rates as functions, and certificates: a method's own code run on its worst case.

It rests on :mod:`ngs.methods` and :mod:`ngs.schedules`; certificates need PEPit.
"""

from ngs.theory.bounds import (
    chambolle_dossal_bound,
    gradient_descent_bound,
    heavy_ball_bound,
    lower_bound,
    nesterov_bound,
    ode_bound,
    optimized_bound,
    shifted_conjecture,
    simplified_bound,
    strongly_convex_bound,
    triple_momentum_bound,
)
from ngs.theory.certificates import Certificate, certify, certify_rate
from ngs.theory.quadratics import (
    HeavyBallOptimum,
    heavy_ball_optimum,
    iteration_matrix,
    spectral_radius,
)
from ngs.theory.rates import RATES, Rate

__all__ = [
    "RATES",
    "Certificate",
    "HeavyBallOptimum",
    "Rate",
    "certify",
    "certify_rate",
    "chambolle_dossal_bound",
    "gradient_descent_bound",
    "heavy_ball_bound",
    "heavy_ball_optimum",
    "iteration_matrix",
    "lower_bound",
    "nesterov_bound",
    "ode_bound",
    "optimized_bound",
    "shifted_conjecture",
    "simplified_bound",
    "spectral_radius",
    "strongly_convex_bound",
    "triple_momentum_bound",
]
