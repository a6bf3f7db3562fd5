"""Least squares: fitting the weights of a linear model, the quadratic that data make.

It rests on NumPy and :mod:`ngs.problems.problem`.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ngs.errors import InputError
from ngs.problems.problem import Problem, Vector, as_matrix, as_vector, check_count


def mean_squared_error(features: ArrayLike, targets: ArrayLike) -> Problem:
    r"""Return the mean squared error of a linear model.

    .. math:: f(\theta) = \frac1n\sum_{i=1}^n (a_i^\top\theta-b_i)^2, \qquad
              \nabla f(\theta) = \frac2n A^\top(A\theta-b)

    Mind the factor: a mean without the :math:`\tfrac12` of other texts. The Hessian is
    :math:`\tfrac2n A^\top A`; ``L`` and ``mu`` are its largest and smallest eigenvalue, both
    attained, and ``mu`` is 0 where the columns of :math:`A` are dependent (up to rounding). The
    minimiser is the shortest one, computed by :func:`numpy.linalg.lstsq`.

    Args:
        features: :math:`A` of shape ``(n, d)``, finite and not all 0.
        targets: :math:`b` of shape ``(n,)``, finite.

    Raises:
        InputError: a shape or a range does not fit.

    Source: Legendre (1805).

    >>> f = mean_squared_error([[1.0, 0.0], [0.0, 2.0]], [3.0, 4.0])
    >>> f.L, f.mu, f.value(np.zeros(2))
    (4.0, 1.0, 12.5)
    >>> bool(np.allclose(f.minimizer, [3.0, 2.0]))
    True
    """
    A = as_matrix("features", features)
    n, d = A.shape
    b = as_vector("targets", targets, n)

    def value(theta: Vector) -> float:
        return float(np.mean((A @ theta - b) ** 2))

    def grad(theta: Vector) -> Vector:
        gradient: Vector = 2.0 / n * (A.T @ (A @ theta - b))
        return gradient

    solution, _, rank, singular_values = np.linalg.lstsq(A, b)
    minimizer: Vector = solution.astype(np.float64)
    return Problem(
        name=f"mean squared error, d={d}",
        dimension=d,
        value=value,
        grad=grad,
        L=float(2.0 / n * singular_values[0] ** 2),
        mu=float(2.0 / n * singular_values[-1] ** 2) if rank == d else 0.0,
        minimizer=minimizer,
        minimum=value(minimizer),
    )


def ten_weights(seed: int = 0, *, samples: int = 100) -> Problem:
    r"""Return the example of the popular articles: find the ten weights behind the targets.

    Features :math:`A` and true weights :math:`w` are drawn from the standard normal distribution,
    the targets are :math:`b = Aw` without noise. So the minimiser of the
    :func:`mean_squared_error` is :math:`w` and the minimum is 0.

    Args:
        seed: of the draw, 0 or more.
        samples: :math:`n`, 10 or more, so that the weights are determined.

    Raises:
        InputError: ``seed`` or ``samples`` is out of range.

    >>> f = ten_weights()
    >>> f.dimension, f.minimum, round(f.value(np.zeros(10)), 3), round(f.kappa, 2)
    (10, 0.0, 4.345, 3.79)
    """
    check_count("seed", seed, 0)
    if samples < 10:
        raise InputError(f"samples must be 10 or more to determine ten weights, got {samples}")
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples, 10))
    weights = rng.normal(size=10)
    problem = mean_squared_error(features, features @ weights)
    return replace(problem, name="ten weights", minimizer=weights, minimum=0.0)
