"""The smoothed maximum of affine functions: convex, but not strongly, for far out it is straight.

It rests on NumPy and :mod:`ngs.problems.problem`.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ngs.errors import InputError
from ngs.problems.problem import Problem, Vector, as_matrix, as_vector, check_count, check_positive


def log_sum_exp(rows: ArrayLike, offsets: ArrayLike, temperature: float) -> Problem:
    r"""Return the smoothed maximum of the affine functions :math:`a_i^\top\theta - b_i`.

    .. math:: f(\theta) = \rho\,\log\sum_{i=1}^m \exp\frac{a_i^\top\theta-b_i}\rho, \qquad
              \max_i\,(a_i^\top\theta-b_i) \le f(\theta) \le
              \max_i\,(a_i^\top\theta-b_i) + \rho\log m

    Its gradient is :math:`A^\top p`, the mean of the rows under the softmax weights
    :math:`p_i\propto\exp((a_i^\top\theta-b_i)/\rho)`. Value and gradient are computed from the
    distance to the largest term, so nothing overflows before the terms themselves do.

    ``L`` is :math:`\lambda_{\max}(A^\top A)/\rho`, a bound; the smallest constant is at most half
    of it, for :math:`\mathrm{diag}(p)-pp^\top` has no eigenvalue above :math:`\tfrac12`. ``mu`` is
    0. Minimiser and minimum are ``None``; for some data there is none.

    Args:
        rows: :math:`A` of shape ``(m, d)``, finite and not all 0.
        offsets: :math:`b` of shape ``(m,)``, finite.
        temperature: :math:`\rho`, finite and above 0; the smaller, the sharper the maximum.

    Raises:
        InputError: a shape or a range does not fit.

    Source: O'Donoghue & Candès (2015), the example of their numerical part.

    >>> f = log_sum_exp([[1.0], [0.0]], [0.0, 0.0], temperature=1.0)
    >>> f.value(np.array([1000.0])), f.grad(np.array([1000.0])), f.L
    (1000.0, array([1.]), 1.0)
    """
    A = as_matrix("rows", rows)
    m, d = A.shape
    b = as_vector("offsets", offsets, m)
    rho = temperature
    check_positive("temperature", rho)

    def value(theta: Vector) -> float:
        terms = A @ theta - b
        top = terms.max()
        return float(top + rho * np.log(np.exp((terms - top) / rho).sum()))

    def grad(theta: Vector) -> Vector:
        return A.T @ softmax(A @ theta - b, rho)

    return Problem(
        name=f"log-sum-exp, d={d}",
        dimension=d,
        value=value,
        grad=grad,
        L=float(np.linalg.norm(A, 2) ** 2 / rho),
        mu=0.0,
        minimizer=None,
        minimum=None,
    )


def random_log_sum_exp(
    dimension: int, terms: int, *, temperature: float = 1.0, seed: int = 0
) -> Problem:
    r"""Return a random :func:`log_sum_exp` whose minimiser is known by construction.

    Draw :math:`A`, :math:`b` and :math:`\theta^\star` from the standard normal distribution, take
    the softmax weights :math:`p` at :math:`\theta^\star`, and subtract the mean row from every row:

    .. math:: a_i' = a_i - A^\top p, \qquad \nabla f(\theta^\star) = A'^\top p
              = A^\top p - \Bigl(\sum_i p_i\Bigr) A^\top p = 0

    for the weights stay the same when all terms move by the same amount. The minimum is the value
    there, :math:`\rho\log\sum_i\exp((a_i^\top\theta^\star-b_i)/\rho)-p^\top A\,\theta^\star`. The
    minimiser is the only one: with more terms than dimensions, the Hessian
    :math:`A'^\top\mathrm{diag}(p)A'/\rho` there is positive definite (with probability 1).

    ``L`` and ``mu`` are those of :func:`log_sum_exp`.

    Args:
        dimension: :math:`d`, 1 or more.
        terms: :math:`m`, more than ``dimension``.
        temperature: :math:`\rho`, finite and above 0.
        seed: of the draw, 0 or more.

    Raises:
        InputError: an argument is out of range.

    Source: O'Donoghue & Candès (2015) for the function; the shift of the rows is this library's.

    >>> f = random_log_sum_exp(20, 100, temperature=20.0)
    >>> bool(np.abs(f.grad(f.minimizer)).max() < 1e-14), f.value(f.minimizer) == f.minimum
    (True, True)
    """
    check_count("dimension", dimension, 1)
    if terms <= dimension:
        raise InputError(
            f"terms must be more than dimension = {dimension}, or the minimiser is not the only "
            f"one, got {terms}"
        )
    check_count("seed", seed, 0)
    check_positive("temperature", temperature)
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(terms, dimension))
    b = rng.normal(size=terms)
    minimizer = rng.normal(size=dimension)
    p = softmax(A @ minimizer - b, temperature)
    problem = log_sum_exp(A - p @ A, b, temperature)
    return replace(
        problem,
        name=f"random log-sum-exp, d={dimension}",
        minimizer=minimizer,
        minimum=problem.value(minimizer),
    )


def softmax(terms: Vector, temperature: float) -> Vector:
    r"""Return the weights :math:`p_i = \exp(z_i/\rho)/\sum_j\exp(z_j/\rho)` without overflow.

    >>> softmax(np.array([1e300, 1e300, 0.0]), 1.0)
    array([0.5, 0.5, 0. ])
    """
    weights = np.exp((terms - terms.max()) / temperature)
    total: Vector = weights / weights.sum()
    return total
