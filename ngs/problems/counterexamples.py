"""Functions that break a belief: a convex one on which heavy ball cycles, and a curved valley.

They rest on NumPy and :mod:`ngs.problems.problem`.
"""

import numpy as np

from ngs.problems.problem import Problem, Vector, check_count


def lessard_counterexample() -> Problem:
    r"""Return the strongly convex function on a line on which heavy ball runs in a circle.

    .. math:: f'(\theta) = \begin{cases} 25\,\theta & \theta < 1\\ \theta+24 & 1\le\theta<2\\
              25\,\theta-24 & \theta\ge2\end{cases}
              \qquad
              f(\theta) = \begin{cases} \tfrac{25}2\theta^2 & \theta < 1\\
              \tfrac12\theta^2+24\,\theta-12 & 1\le\theta<2\\
              \tfrac{25}2\theta^2-24\,\theta+36 & \theta\ge2\end{cases}

    :math:`L = 25` and :math:`\mu = 1` are attained, the minimiser is 0 and the minimum 0. With the
    coefficients that are best on quadratics of this condition number, :math:`\eta=1/9` and
    :math:`\beta=4/9`, heavy ball from 3.3 ends in a cycle of three points. Nesterov's method with
    its own coefficients converges.

    Source: Lessard, Recht & Packard (2016), their counterexample to heavy ball.

    >>> f = lessard_counterexample()
    >>> [f.value(np.array([x])) for x in (0.0, 1.0, 2.0)]
    [0.0, 12.5, 38.0]
    >>> from ngs import methods, minimize
    >>> run = minimize.minimize(methods.heavy_ball, f, [3.3], lr=1/9, momentum=4/9, steps=300)
    >>> [round(1225 * x) for x in run.iterates[-3:, 0]]
    [-2208, 2592, 792]
    """

    def value(theta: Vector) -> float:
        x = float(theta[0])
        if x < 1.0:
            return 12.5 * x * x
        if x < 2.0:
            return 0.5 * x * x + 24.0 * x - 12.0
        return 12.5 * x * x - 24.0 * x + 36.0

    def grad(theta: Vector) -> Vector:
        x = float(theta[0])
        if x < 1.0:
            return np.array([25.0 * x])
        if x < 2.0:
            return np.array([x + 24.0])
        return np.array([25.0 * x - 24.0])

    return Problem(
        name="Lessard's counterexample",
        dimension=1,
        value=value,
        grad=grad,
        L=25.0,
        mu=1.0,
        minimizer=np.zeros(1),
        minimum=0.0,
    )


def rosenbrock(dimension: int = 2) -> Problem:
    r"""Return Rosenbrock's curved valley, which is not convex.

    .. math:: f(\theta) = \sum_{i=1}^{d-1} 100\,(\theta_{i+1}-\theta_i^2)^2 + (1-\theta_i)^2

    The minimum 0 is attained at :math:`(1,\dots,1)` alone. In 4 to 10 dimensions there is a second
    local minimum, with :math:`\theta_1 < 0`. The gradient grows like a cubic, so no :math:`L` holds
    everywhere, and no :math:`\mu` either: both are ``None``.

    Args:
        dimension: :math:`d`, 2 or more.

    Raises:
        InputError: ``dimension`` is below 2.

    Source: Rosenbrock (1960), for two dimensions.

    >>> f = rosenbrock()
    >>> f.value(np.array([-1.2, 1.0])), f.minimizer
    (24.199999999999996, array([1., 1.]))
    """
    check_count("dimension", dimension, 2)

    def value(theta: Vector) -> float:
        head, climb = theta[:-1], theta[1:] - theta[:-1] ** 2
        return float(np.sum(100.0 * climb**2 + (1.0 - head) ** 2))

    def grad(theta: Vector) -> Vector:
        head, climb = theta[:-1], theta[1:] - theta[:-1] ** 2
        result = np.zeros(dimension)
        result[:-1] = -400.0 * head * climb - 2.0 * (1.0 - head)
        result[1:] += 200.0 * climb
        return result

    return Problem(
        name=f"Rosenbrock, d={dimension}",
        dimension=dimension,
        value=value,
        grad=grad,
        L=None,
        mu=None,
        minimizer=np.ones(dimension),
        minimum=0.0,
    )
