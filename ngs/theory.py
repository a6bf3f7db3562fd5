"""Proved rates as functions, and certificates: a method's own code run on its worst case.

It rests on :mod:`ngs.methods` and :mod:`ngs.schedules`; certificates need PEPit.
"""

from ngs.errors import InputError
from ngs.methods import Method, start
from ngs.schedules import Constant, Schedule, nesterov_lambda


def gradient_descent_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`LR^2/(4k+2)`, the exact worst case of gradient descent with step 1/L.

    Args:
        k: number of steps, 0 or more.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.

    Source: Drori & Teboulle (2014), Theorem 3.1.
    """
    return L * R**2 / (4 * k + 2)


def nesterov_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`LR^2/(2\lambda_k^2)`, proved for Nesterov's method with step 1/L.

    It holds under :class:`ngs.schedules.NesterovMomentum` and is at most :math:`2LR^2/(k+1)^2`.

    Args:
        k: number of steps, 1 or more.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.

    Source: Nesterov (1983); Beck & Teboulle (2009), Theorem 4.4.
    """
    return L * R**2 / (2.0 * nesterov_lambda(k) ** 2)


def lower_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`3LR^2/(32(k+1)^2)`: no first-order method does better on every function.

    It speaks of methods whose iterates are combinations of gradients, in dimension
    :math:`d \ge 2k+1`.

    Source: Nesterov (2004), Theorem 2.1.7; chapter 3 proves it.
    """
    return 3.0 * L * R**2 / (32.0 * (k + 1) ** 2)


def certify(
    method: Method, steps: int, *, momentum: float | Schedule = 0.0, L: float = 1.0
) -> float:
    r"""Return the worst :math:`f(\theta_k)-f^\star` over all L-smooth convex functions with R = 1.

    The method's own functions run on PEPit points with :math:`\eta=1/L`; a semidefinite program
    then finds the worst function. The answer is exact up to the solver's accuracy (about 1e-6).

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        steps: :math:`k`, 1 or more; the program grows with its square.
        momentum: coefficient, or a schedule ``t -> coefficient``.
        L: smoothness.

    Raises:
        InputError: ``steps`` is below 1.
        ImportError: PEPit is not installed.

    Source: Drori & Teboulle (2014); Goujaud et al. (2024) for PEPit.
    """
    if steps < 1:
        raise InputError(f"steps must be 1 or more, got {steps}")
    try:
        from PEPit import PEP
        from PEPit.functions import SmoothConvexFunction
    except ImportError as error:
        raise ImportError("ngs.theory.certify needs PEPit: pip install 'ngs[theory]'") from error
    momentum_at = momentum if callable(momentum) else Constant(momentum)
    problem = PEP()
    f = problem.declare_function(SmoothConvexFunction, L=L)
    minimizer = f.stationary_point()
    state = start(problem.set_initial_point())
    problem.set_initial_condition((state.theta - minimizer) ** 2 <= 1)
    for t in range(steps):
        grad = f.gradient(method.gradient_point(state, momentum_at(t)))
        state = method.step(state, grad, 1.0 / L, momentum_at(t))
    problem.set_performance_metric(f(state.theta) - f(minimizer))
    return float(problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0))
