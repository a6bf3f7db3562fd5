"""Objectives, and what is known of each: smoothness L, strong convexity mu, minimiser, minimum.

They rest on NumPy; the handwritten digits need scikit-learn (``pip install 'ngs[problems]'``),
which is imported when they are asked for.
"""

from ngs.problems.classification import digits_logistic_regression, logistic_regression
from ngs.problems.counterexamples import lessard_counterexample, rosenbrock
from ngs.problems.problem import Problem
from ngs.problems.quadratics import quadratic, worst_function
from ngs.problems.regression import mean_squared_error, ten_weights
from ngs.problems.smooth_maximum import log_sum_exp, random_log_sum_exp

__all__ = [
    "Problem",
    "digits_logistic_regression",
    "lessard_counterexample",
    "log_sum_exp",
    "logistic_regression",
    "mean_squared_error",
    "quadratic",
    "random_log_sum_exp",
    "rosenbrock",
    "ten_weights",
    "worst_function",
]
