"""On a quadratic a method is a matrix: its eigenvalues, and the coefficients best for them.

They rest on :mod:`ngs.methods`, :mod:`ngs.schedules` and NumPy.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ngs.errors import InputError
from ngs.methods import Method
from ngs.schedules import coefficients_at


class HeavyBallOptimum(NamedTuple):
    r"""Step size, momentum and rate: :math:`(\eta, \beta, \sqrt\beta)`."""

    lr: float
    momentum: float
    rate: float


def heavy_ball_optimum(L: float, mu: float) -> HeavyBallOptimum:
    r"""Return the coefficients with which heavy ball is fastest on quadratics, and their rate.

    .. math:: \eta = \Bigl(\frac2{\sqrt L+\sqrt\mu}\Bigr)^2, \qquad
              \beta = \Bigl(\frac{\sqrt\kappa-1}{\sqrt\kappa+1}\Bigr)^2, \qquad
              \text{rate } \sqrt\beta

    Args:
        L: the largest eigenvalue.
        mu: the smallest eigenvalue, above 0 and at most ``L``.

    Raises:
        InputError: not 0 < ``mu`` <= ``L``.

    Source: Polyak (1964); chapter 2 derives it.

    >>> heavy_ball_optimum(L=100.0, mu=1.0).rate
    0.8181818181818182
    """
    if not 0.0 < mu <= L < math.inf:
        raise InputError(f"mu and L must be finite with 0 < mu <= L, got mu = {mu}, L = {L}")
    rate = (math.sqrt(L) - math.sqrt(mu)) / (math.sqrt(L) + math.sqrt(mu))
    return HeavyBallOptimum((2.0 / (math.sqrt(L) + math.sqrt(mu))) ** 2, rate**2, rate)


def iteration_matrix(
    method: Method, eigenvalue: float, lr: float, momentum: float | tuple[float, ...] = 0.0
) -> NDArray[np.float64]:
    r"""Return the 2x2 matrix that one step is on :math:`f(\theta) = \tfrac12\lambda\theta^2`.

    The method's own functions run on the two unit states, so that column :math:`j` is what
    becomes of the :math:`j`-th: for a :class:`ngs.methods.State` the map
    :math:`(\theta_t, v_t)\mapsto(\theta_{t+1}, v_{t+1})`.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        eigenvalue: the curvature :math:`\lambda`.
        lr: step size.
        momentum: the constant coefficient or coefficients.

    Raises:
        InputError: the method takes another number of coefficients.
    """
    betas = coefficients_at(method, momentum, 0)
    kind = type(method.start(0.0))
    columns = []
    for unit in ((1.0, 0.0), (0.0, 1.0)):
        state = kind(*unit)
        grad = eigenvalue * method.gradient_point(state, *betas)
        columns.append(method.step(state, grad, lr, *betas))
    return np.array(columns, dtype=np.float64).T


def spectral_radius(
    method: Method, eigenvalue: float, lr: float, momentum: float | tuple[float, ...] = 0.0
) -> float:
    """Return the largest absolute eigenvalue of :func:`iteration_matrix`: the rate on a quadratic.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        eigenvalue: the curvature.
        lr: step size.
        momentum: the constant coefficient or coefficients.

    >>> from ngs import methods
    >>> spectral_radius(methods.gradient_descent, eigenvalue=4.0, lr=0.1)
    0.6
    """
    matrix = iteration_matrix(method, eigenvalue, lr, momentum)
    if not method.coefficients:
        return float(abs(matrix[0, 0]))  # the velocity is a by-product, not part of the state
    return float(np.abs(np.linalg.eigvals(matrix)).max())
