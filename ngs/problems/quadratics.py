"""Convex quadratics: of a given spectrum, and the one on which every first-order method is slow.

They rest on NumPy and :mod:`ngs.problems.problem`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ngs.errors import InputError
from ngs.problems.problem import Problem, Vector


def quadratic(
    spectrum: Sequence[float] | Vector,
    *,
    minimizer: ArrayLike | None = None,
    rotation_seed: int | None = None,
) -> Problem:
    r"""Return :math:`f(\theta) = \tfrac12(\theta-\theta^\star)^\top A\,(\theta-\theta^\star)`.

    Args:
        spectrum: eigenvalues of :math:`A`, each at least 0 and the largest above 0.
        minimizer: :math:`\theta^\star` of shape ``(d,)``; the origin by default. (Where an
            eigenvalue is 0 it is one minimiser of many.)
        rotation_seed: seed of a random rotation of the eigenvectors; by default they are the axes.

    Raises:
        InputError: the spectrum is empty or has a negative or non-finite entry, or the minimiser
            has another shape or a non-finite entry.

    >>> f = quadratic([1.0, 100.0])
    >>> f.value(np.ones(2)), f.kappa
    (50.5, 100.0)
    """
    eigenvalues = np.asarray(spectrum, dtype=np.float64)
    if eigenvalues.ndim != 1 or eigenvalues.size == 0:
        raise InputError(f"spectrum must be a list of eigenvalues, got shape {eigenvalues.shape}")
    if not (np.isfinite(eigenvalues).all() and eigenvalues.min() >= 0.0 < eigenvalues.max()):
        raise InputError(
            "spectrum must be finite, at least 0 and somewhere above 0, got entries from "
            f"{eigenvalues.min()} to {eigenvalues.max()}"
        )
    d = eigenvalues.size
    center = np.zeros(d) if minimizer is None else np.array(minimizer, dtype=np.float64)
    if center.shape != (d,):
        raise InputError(f"minimizer must have shape ({d},), got {center.shape}")
    if not np.isfinite(center).all():
        raise InputError(f"minimizer must be finite, got {center}")
    if rotation_seed is None:
        A = np.diag(eigenvalues)
    else:
        gaussian = np.random.default_rng(rotation_seed).normal(size=(d, d))
        Q, _ = np.linalg.qr(gaussian)
        A = Q @ np.diag(eigenvalues) @ Q.T

    def value(theta: Vector) -> float:
        offset = theta - center
        return float(0.5 * offset @ (A @ offset))

    def grad(theta: Vector) -> Vector:
        return A @ (theta - center)

    return Problem(
        name=f"quadratic, d={d}",
        dimension=d,
        value=value,
        grad=grad,
        L=float(eigenvalues.max()),
        mu=float(eigenvalues.min()),
        minimizer=center,
        minimum=0.0,
    )


def worst_function(dimension: int, L: float = 1.0) -> Problem:
    r"""Return the smooth convex function on which every first-order method is slow.

    .. math:: f(\theta) = \frac L4\Bigl(\tfrac12\Bigl[\theta_1^2 +
        \sum_{i=1}^{d-1}(\theta_i-\theta_{i+1})^2 + \theta_d^2\Bigr] - \theta_1\Bigr)

    From :math:`\theta_0=0` a gradient reveals one new coordinate a step, so after :math:`k` steps
    of any method whose steps are combinations of gradients, coordinates :math:`k+1..d` are still 0.

    Args:
        dimension: :math:`d`, 1 or more.
        L: bound on the gradient's Lipschitz constant, above 0. (The exact constant is
            :math:`\tfrac L4\lambda_{\max} < L`.)

    Raises:
        InputError: ``dimension`` or ``L`` is out of range.

    Source: Nesterov (2004), section 2.1.2.

    >>> f = worst_function(3)
    >>> f.minimizer
    array([0.75, 0.5 , 0.25])
    >>> f.minimum
    -0.09375
    """
    if dimension < 1:
        raise InputError(f"dimension must be 1 or more, got {dimension}")
    if not (np.isfinite(L) and L > 0.0):
        raise InputError(f"L must be finite and above 0, got {L}")
    d = dimension

    def product(theta: Vector) -> Vector:
        """Multiply by the tridiagonal matrix with 2 on the diagonal and -1 beside it."""
        result = 2.0 * theta
        result[:-1] -= theta[1:]
        result[1:] -= theta[:-1]
        return result

    def value(theta: Vector) -> float:
        return float(L / 4.0 * (0.5 * theta @ product(theta) - theta[0]))

    def grad(theta: Vector) -> Vector:
        result = product(theta)
        result[0] -= 1.0
        return L / 4.0 * result

    return Problem(
        name=f"worst function, d={d}",
        dimension=d,
        value=value,
        grad=grad,
        L=L,
        mu=float(L / 4.0 * (2.0 - 2.0 * np.cos(np.pi / (d + 1)))),
        minimizer=1.0 - np.arange(1, d + 1) / (d + 1),
        minimum=-L / 8.0 * d / (d + 1),
    )
