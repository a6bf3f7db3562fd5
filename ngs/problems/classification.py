"""Logistic regression, on data that are given and on the handwritten digits of scikit-learn.

It rests on NumPy and :mod:`ngs.problems.problem`; the digits, and a minimiser for them, need
scikit-learn.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ngs.errors import InputError
from ngs.problems.problem import Matrix, Problem, Vector, as_matrix, as_vector, check_positive

DIGITS_GRADIENT_NORM = 1e-12
"""The gradient of :func:`digits_logistic_regression` at its minimiser is at most this long."""


def logistic_regression(features: ArrayLike, labels: ArrayLike, regularization: float) -> Problem:
    r"""Return the loss of logistic regression with labels -1 and +1.

    .. math:: f(\theta) = \frac1n\sum_{i=1}^n \log\bigl(1+e^{-y_i a_i^\top\theta}\bigr)
              + \frac r2\lVert\theta\rVert^2

    ``L`` is :math:`\lambda_{\max}(A^\top A)/(4n)+r`, attained at the origin. ``mu`` is :math:`r`,
    a lower bound on the curvature: far out the losses are straight lines, so no larger one holds
    everywhere. Minimiser and minimum are ``None``; with :math:`r=0` there is none where a plane
    separates the classes. Value and gradient do not overflow however large the margins
    :math:`y_i a_i^\top\theta` are.

    Args:
        features: :math:`A` of shape ``(n, d)``, finite and not all 0; add a column of ones for an
            intercept.
        labels: :math:`y` of shape ``(n,)``, each -1 or +1.
        regularization: :math:`r`, finite and at least 0.

    Raises:
        InputError: a shape or a range does not fit.

    Source: Cox (1958).

    >>> f = logistic_regression([[1.0], [-1.0]], [1, -1], regularization=0.5)
    >>> f.value(np.zeros(1)), f.L, f.mu
    (0.6931471805599453, 0.75, 0.5)
    """
    A = as_matrix("features", features)
    n, d = A.shape
    y = as_vector("labels", labels, n)
    if not (np.abs(y) == 1.0).all():
        wrong = float(y[np.abs(y) != 1.0][0])
        raise InputError(f"labels must be -1 or +1, got {wrong:g}: map your two classes to these")
    if not (np.isfinite(regularization) and regularization >= 0.0):
        raise InputError(f"regularization must be finite and at least 0, got {regularization}")
    r = regularization

    def value(theta: Vector) -> float:
        # log(1 + exp(-m)) of the margins m
        losses = np.logaddexp(0.0, -y * (A @ theta))
        return float(losses.mean() + 0.5 * r * (theta @ theta))

    def grad(theta: Vector) -> Vector:
        # 1 / (1 + exp(m)), the probability given to the wrong label
        wrong = np.exp(-np.logaddexp(0.0, y * (A @ theta)))
        gradient: Vector = -(A.T @ (y * wrong)) / n + r * theta
        return gradient

    return Problem(
        name=f"logistic regression, d={d}",
        dimension=d,
        value=value,
        grad=grad,
        L=float(np.linalg.norm(A, 2) ** 2 / (4.0 * n) + r),
        mu=float(r),
        minimizer=None,
        minimum=None,
    )


def digits_logistic_regression(regularization: float = 1e-3) -> Problem:
    r"""Return :func:`logistic_regression` on real handwritten digits: even against odd.

    The 1797 images of 8 x 8 pixels that scikit-learn ships; no network is needed. Label +1 is an
    even digit, -1 an odd one. Features are the 64 pixels scaled to [0, 1] and a constant 1, so
    :math:`d = 65`.

    Minimiser and minimum are numerical: SciPy's ``trust-exact`` finds them and Newton's steps
    refine them until the gradient is at most 1e-12 long. By strong convexity the minimiser is then
    off by at most :math:`10^{-12}/r`, and the minimum by at most :math:`10^{-24}/(2r)`, besides
    rounding. Three pixels are blank in every image, so ``mu`` :math:`= r` is attained.

    The problem is computed once for each ``regularization`` and kept; its minimiser is read-only.

    Args:
        regularization: :math:`r`, finite and above 0.

    Raises:
        InputError: ``regularization`` is out of range, or so small that 1e-12 is not reached.
        ImportError: scikit-learn is not installed.

    Source: Alpaydin & Kaynak (1998), UCI machine learning repository, as shipped by scikit-learn.

    >>> f = digits_logistic_regression()
    >>> f.dimension, round(f.L, 4), f.mu, round(f.minimum, 6)
    (65, 2.8619, 0.001, 0.225412)
    """
    check_positive("regularization", regularization)
    return _digits(float(regularization))


@lru_cache(maxsize=16)
def _digits(regularization: float) -> Problem:
    try:
        from scipy import optimize
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "ngs.problems.digits_logistic_regression needs scikit-learn: "
            "pip install 'ngs[problems]'"
        ) from error
    images, digits = load_digits(return_X_y=True)
    A = np.column_stack([images / 16.0, np.ones(len(images))])
    problem = logistic_regression(A, np.where(digits % 2 == 0, 1.0, -1.0), regularization)

    def hessian(theta: Vector) -> Matrix:
        return _logistic_hessian(A, theta, regularization)

    found = optimize.minimize(
        problem.value,
        np.zeros(problem.dimension),
        method="trust-exact",
        jac=problem.grad,
        hess=hessian,
        options={"gtol": 1e-6},  # below that, differences of values drown in rounding
    )
    minimizer = _polished(problem, hessian, found.x)
    minimizer.flags.writeable = False
    return replace(
        problem,
        name="digits, even against odd",
        minimizer=minimizer,
        minimum=problem.value(minimizer),
    )


def _logistic_hessian(A: Matrix, theta: Vector, regularization: float) -> Matrix:
    # s (1 - s) = 1 / (2 + exp(z) + exp(-z)), which does not depend on the labels
    z = A @ theta
    curvature = np.exp(-np.logaddexp(0.0, z) - np.logaddexp(0.0, -z))
    hessian: Matrix = (A.T * curvature) @ A / len(A) + regularization * np.eye(A.shape[1])
    return hessian


def _polished(problem: Problem, hessian: Callable[[Vector], Matrix], theta: Vector) -> Vector:
    """Take Newton's steps from ``theta`` until the gradient is as short as promised."""
    for _ in range(50):
        grad = problem.grad(theta)
        if np.linalg.norm(grad) <= DIGITS_GRADIENT_NORM:
            return theta
        theta = theta - np.linalg.solve(hessian(theta), grad)
    raise InputError(
        f"regularization {problem.mu:g} leaves a gradient of {np.linalg.norm(grad):.1e} at the "
        f"minimiser, allowed is {DIGITS_GRADIENT_NORM:g}: take a larger one, such as 1e-3"
    )
