"""What a problem is, and how the arrays that a user gives for one are checked.

It rests on NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngs.errors import InputError

Vector = NDArray[np.float64]
"""An array ``(d,)``."""
Matrix = NDArray[np.float64]
"""An array ``(n, d)``, one row for each sample or term."""


@dataclass(frozen=True)
class Problem:
    r"""A differentiable function :math:`f:\mathbb{R}^d\to\mathbb{R}` and what is known of it.

    ``None`` says that a constant is unknown, or that there is none.

    Attributes:
        name: what to call it in a table.
        dimension: :math:`d`.
        value: :math:`f`, from ``(d,)`` to a float.
        grad: :math:`\nabla f`, from ``(d,)`` to ``(d,)``.
        L: smoothness, a Lipschitz constant of the gradient; where it is not the smallest one, the
            function that makes the problem says so.
        mu: strong convexity; 0 where the function is merely convex, ``None`` where it is not
            convex.
        minimizer: :math:`\theta^\star`, of shape ``(d,)``.
        minimum: :math:`f(\theta^\star)`.
    """

    name: str
    dimension: int
    value: Callable[[Vector], float]
    grad: Callable[[Vector], Vector]
    L: float | None
    mu: float | None
    minimizer: Vector | None
    minimum: float | None

    @property
    def kappa(self) -> float:
        r"""Condition number :math:`\kappa = L/\mu`; infinite where :math:`\mu = 0`.

        Raises:
            InputError: :math:`L` or :math:`\mu` is unknown.
        """
        if self.L is None or self.mu is None:
            raise InputError(f"{self.name} has no known condition number")
        return self.L / self.mu if self.mu > 0.0 else float("inf")


def as_matrix(name: str, given: ArrayLike) -> Matrix:
    """Return a copy of what was given as a matrix, or raise InputError.

    Args:
        name: what the caller calls it.
        given: shape ``(n, d)`` with ``n`` and ``d`` at least 1, finite and not all zero.
    """
    matrix = _as_floats(name, given)
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"{name} must have shape (n, d) with n, d >= 1, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name} must be finite, got {_first_bad(matrix)} among the entries")
    if not matrix.any():
        raise InputError(f"{name} must not all be 0, or the function has no curvature: got all 0")
    return matrix


def as_vector(name: str, given: ArrayLike, length: int) -> Vector:
    """Return a copy of what was given as a finite vector of that length, or raise InputError."""
    vector = _as_floats(name, given)
    if vector.shape != (length,):
        raise InputError(f"{name} must have shape ({length},), one a row, got {vector.shape}")
    if not np.isfinite(vector).all():
        raise InputError(f"{name} must be finite, got {_first_bad(vector)} among the entries")
    return vector


def check_count(name: str, given: int, least: int) -> None:
    """Raise InputError unless ``given`` is ``least`` or more."""
    if given < least:
        raise InputError(f"{name} must be {least} or more, got {given}")


def check_positive(name: str, given: float) -> None:
    """Raise InputError unless ``given`` is finite and above 0."""
    if not (np.isfinite(given) and given > 0.0):
        raise InputError(f"{name} must be finite and above 0, got {given}")


def _as_floats(name: str, given: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from error


def _first_bad(array: NDArray[np.float64]) -> float:
    return float(array[~np.isfinite(array)][0])
