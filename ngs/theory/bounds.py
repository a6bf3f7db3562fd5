"""Proved rates as functions of the number of steps, the constants and the distance R.

They rest on :mod:`ngs.schedules`.
"""

import math

from ngs.schedules import OptimizedMomentum, nesterov_lambda

# --- bounds: smooth convex functions ------------------------------------------------------------


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


def simplified_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`2LR^2/(k^2+5k+6)`, the worst case under :math:`\beta_t=\max(0,(t-1)/(t+2))`.

    The step size is 1/L, the schedule :class:`ngs.schedules.SimplifiedMomentum`. That the bound is
    reached is seen in certificates, not proved.

    Args:
        k: number of steps, 1 or more.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.

    Source: PEPit, ``accelerated_gradient_convex_simplified``; chapter 3 certifies it.
    """
    return 2.0 * L * R**2 / (k**2 + 5 * k + 6)


def shifted_conjecture(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`2LR^2/(k^2+7k+4)`, a guess for :math:`\beta_t = t/(t+3)` with step 1/L.

    It agrees with certificates at k = 1, 2, 3, 4, 5, 7, 10 and 15 and is not proved: it shows that
    the index of a schedule is visible in the worst case.

    Args:
        k: number of steps, 1 or more.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.
    """
    return 2.0 * L * R**2 / (k**2 + 7 * k + 4)


def chambolle_dossal_bound(k: int, a: float = 3.0, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`LR^2/(2\lambda_k^2)` with :math:`\lambda_k = (k+a-1)/a`, for step 1/L.

    It holds for every sequence with :math:`\lambda_{k+1}^2-\lambda_{k+1}\le\lambda_k^2`, this one
    (:class:`ngs.schedules.ChambolleDossalMomentum`) among them.

    Args:
        k: number of steps, 1 or more.
        a: parameter of the sequence, 2 or more.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.

    Source: Chambolle & Dossal (2015); chapter 3 proves it.
    """
    return L * R**2 * a**2 / (2.0 * (k + a - 1.0) ** 2)


def optimized_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`LR^2/(2\vartheta_k^2)`, the exact worst case of the optimized gradient method.

    No first-order method has a smaller one where the dimension is large enough, so it is the exact
    lower bound too.

    Args:
        k: number of steps, 1 or more, for which :class:`ngs.schedules.OptimizedMomentum` was made.
        L: smoothness of the convex function.
        R: distance from the start to a minimiser.

    Source: Kim & Fessler (2016), Theorem 2; Drori (2017), Theorem 3.
    """
    return L * R**2 / (2.0 * OptimizedMomentum(k).weight(k) ** 2)


def lower_bound(k: int, L: float = 1.0, R: float = 1.0) -> float:
    r"""Return :math:`3LR^2/(32(k+1)^2)`: no first-order method does better on every function.

    It speaks of methods whose iterates are combinations of gradients, in dimension
    :math:`d \ge 2k+1`.

    Source: Nesterov (2004), Theorem 2.1.7; chapter 3 proves it.
    """
    return 3.0 * L * R**2 / (32.0 * (k + 1) ** 2)


def ode_bound(t: float, R: float = 1.0) -> float:
    r"""Return :math:`2R^2/t^2`, the bound on :math:`f(x(t))-f^\star` along Nesterov's ODE.

    .. math:: \ddot x + \frac3t\,\dot x + \nabla f(x) = 0, \qquad \dot x(0) = 0

    Args:
        t: time, above 0.
        R: distance from :math:`x(0)` to a minimiser.

    Source: Su, Boyd & Candès (2016), Theorem 3; chapter 5 proves it.
    """
    return 2.0 * R**2 / t**2


# --- bounds: smooth and strongly convex functions -----------------------------------------------


def strongly_convex_bound(k: int, L: float, mu: float, R: float = 1.0) -> float:
    r"""Return :math:`(1-1/\sqrt\kappa)^k\,\tfrac{L+\mu}2R^2`, for Nesterov's method with step 1/L.

    It holds under the constant coefficient of :class:`ngs.schedules.StronglyConvexMomentum`.

    Args:
        k: number of steps, 0 or more.
        L: smoothness.
        mu: strong convexity, above 0.
        R: distance from the start to the minimiser.

    Source: Nesterov (2004), Theorem 2.2.3; d'Aspremont, Scieur & Taylor (2021), Corollary 4.15.
    """
    return float((1.0 - math.sqrt(mu / L)) ** k * 0.5 * (L + mu) * R**2)


def triple_momentum_bound(k: int, L: float, mu: float, R: float = 1.0) -> float:
    r"""Return :math:`(1-1/\sqrt\kappa)^{2k}\,\tfrac{L\kappa}2R^2`, for triple momentum's output.

    Args:
        k: number of steps, 1 or more.
        L: smoothness.
        mu: strong convexity, above 0.
        R: distance from the start to the minimiser.

    Source: Van Scoy, Freeman & Lynch (2018), Theorem 1.
    """
    return float((1.0 - math.sqrt(mu / L)) ** (2 * k) * 0.5 * L**2 / mu * R**2)


def heavy_ball_bound(k: int, lr: float, L: float, mu: float, R: float = 1.0) -> float:
    r"""Return :math:`(1-\eta\mu)^k\,\tfrac L2R^2`, for a careful heavy ball on any function.

    It holds for :math:`\eta\le 1/L` and :math:`\beta=\sqrt{(1-\eta\mu)(1-\eta L)}`. As a bound it
    is smallest at :math:`\eta=1/L`, where the momentum is 0; the coefficients that are optimal on
    quadratics have no such bound at all (chapter 2).

    Args:
        k: number of steps, 0 or more.
        lr: step size, above 0 and at most 1/L.
        L: smoothness.
        mu: strong convexity, above 0.
        R: distance from the start to the minimiser.

    Source: Ghadimi, Feyzmahdavian & Johansson (2015), Theorem 4.
    """
    return float((1.0 - lr * mu) ** k * 0.5 * L * R**2)
