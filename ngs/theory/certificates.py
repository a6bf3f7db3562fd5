"""Certificates: a method's own code run on the worst function there is, by performance estimation.

They rest on :mod:`ngs.theory.rates` and, when asked for, on PEPit.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from ngs.errors import InputError
from ngs.methods import Method
from ngs.schedules import Momentum, coefficients_at
from ngs.theory.rates import RATES

ACCURACIES = (1e-7, 1e-6)
"""What the solver is asked for, in turn: its default of 1e-8 is too much for some programs."""


class Certificate(NamedTuple):
    r"""A worst case beside what is proved of it.

    Attributes:
        computed: the largest :math:`f(\theta_k)-f^\star` there is, for R = 1.
        proved: the smallest bound in :data:`RATES` for these coefficients; ``None`` if there is
            none.
    """

    computed: float
    proved: float | None


def certify(
    method: Method,
    steps: int,
    *,
    momentum: Momentum = 0.0,
    lr: float | None = None,
    L: float = 1.0,
    mu: float = 0.0,
) -> Certificate:
    r"""Return the worst :math:`f(\theta_k)-f^\star` of a method with R = 1, and what is proved.

    The worst case is over all functions that are L-smooth and convex, and mu-strongly convex where
    ``mu`` is above 0, in any dimension. The method's own functions run on PEPit points; a
    semidefinite program then finds the worst function. The answer is exact up to the solver's
    accuracy, an absolute error of about 1e-6 L: a worst case that is smaller than that is not
    resolved. :math:`\theta_k` is what ``method.iterate`` returns.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        steps: :math:`k`, 1 or more; the program grows with its square.
        momentum: what the method takes besides the step size, as in :func:`ngs.minimize.minimize`.
        lr: step size; 1/L by default.
        L: smoothness, above 0.
        mu: strong convexity, from 0 to below ``L``.

    Raises:
        InputError: a number is out of range, or ``momentum`` is not what the method takes.
        ArithmeticError: the solver found no finite worst case, or not to the accuracy named here:
            the method may diverge, or the program is too large.
        ImportError: PEPit is not installed.

    Source: Drori & Teboulle (2014); Taylor, Hendrickx & Glineur (2017); Goujaud et al. (2024).
    """
    if steps < 1:
        raise InputError(f"steps must be 1 or more, got {steps}")
    if not 0.0 <= mu < L < math.inf:
        raise InputError(f"mu and L must be finite with 0 <= mu < L, got mu = {mu}, L = {L}")
    try:
        from PEPit import PEP
        from PEPit.functions import SmoothConvexFunction, SmoothStronglyConvexFunction
    except ImportError as error:
        raise ImportError("ngs.theory.certify needs PEPit: pip install 'ngs[theory]'") from error
    eta = 1.0 / L if lr is None else lr
    problem = PEP()
    if mu > 0.0:
        f = problem.declare_function(SmoothStronglyConvexFunction, L=L, mu=mu)
    else:
        f = problem.declare_function(SmoothConvexFunction, L=L)
    minimizer = f.stationary_point()
    theta = problem.set_initial_point()
    problem.set_initial_condition((theta - minimizer) ** 2 <= 1)
    state = method.start(theta)
    for t in range(steps):
        betas = coefficients_at(method, momentum, t)
        grad = f.gradient(method.gradient_point(state, *betas))
        state = method.step(state, grad, eta, *betas)
        theta = method.iterate(state, *betas)
    problem.set_performance_metric(f(theta) - f(minimizer))
    worst = _solve(problem)
    if worst is None or not math.isfinite(worst):
        raise ArithmeticError(
            f"no finite worst case of {method.name} was found for {steps} steps: lower lr, or steps"
        )
    return Certificate(worst, _proved(method, steps, momentum, eta, L, mu))


def _solve(problem: Any) -> float | None:
    """Return the optimum of a PEPit problem, or ``None`` where the solver doubts its own answer."""
    for accuracy in ACCURACIES:
        tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), accuracy)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            worst = problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0, **tolerances)
        if not any("inaccurate" in str(warning.message) for warning in said):
            return None if worst is None else float(worst)
    return None


def certify_rate(name: str, steps: int, *, L: float = 1.0, mu: float = 0.0) -> Certificate:
    """Certify a line of :data:`RATES` with the coefficients of its theorem.

    Args:
        name: key in :data:`RATES`.
        steps: number of steps, 1 or more.
        L: smoothness.
        mu: strong convexity; above 0 for a theorem that needs it.

    Raises:
        InputError: the name is unknown, or ``mu`` is 0 where the theorem needs it.

    >>> certificate = certify_rate("gradient descent", 1)
    >>> round(certificate.computed, 4), round(certificate.proved, 4)
    (0.1667, 0.1667)
    """
    if name not in RATES:
        raise InputError(f"name must be one of {', '.join(RATES)}; got {name}")
    rate = RATES[name]
    if rate.strongly_convex and not mu > 0.0:
        raise InputError(f"{name} is a theorem on strongly convex functions: mu must be above 0")
    return certify(
        rate.method,
        steps,
        momentum=rate.momentum(steps, L, mu),
        lr=rate.step_size(L, mu),
        L=L,
        mu=mu,
    )


def _proved(
    method: Method, steps: int, momentum: Momentum, lr: float, L: float, mu: float
) -> float | None:
    """Return the best bound of RATES whose method and coefficients are the given ones."""
    bounds = []
    for rate in RATES.values():
        if rate.method is not method or (rate.strongly_convex and mu == 0.0):
            continue
        same_lr = math.isclose(rate.step_size(L, mu), lr, rel_tol=1e-12)
        if same_lr and _same(method, rate.momentum(steps, L, mu), momentum, steps):
            bounds.append(rate.bound(steps, L, mu, 1.0))
    return min(bounds, default=None)


def _same(method: Method, first: Momentum, second: Momentum, steps: int) -> bool:
    return all(
        np.allclose(
            coefficients_at(method, first, t), coefficients_at(method, second, t), rtol=1e-12
        )
        for t in range(steps)
    )
