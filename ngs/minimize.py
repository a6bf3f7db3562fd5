"""The loop: run a method on a problem until a stop condition, and keep the history.

It rests on :mod:`ngs.methods`, :mod:`ngs.problems` and :mod:`ngs.schedules`, and on NumPy.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngs.errors import InputError
from ngs.methods import Method, start
from ngs.problems import Problem
from ngs.schedules import Constant, Schedule

DIVERGED = 1e12
"""A gap to the minimum this many times the one at the start counts as divergence.

(A start nearer to the minimum than rounding can tell counts as one rounding error away.)
"""


class Stop(StrEnum):
    """Why a run ended."""

    TOLERANCE = "tolerance"
    BUDGET = "budget"
    DIVERGENCE = "divergence"


@dataclass(frozen=True)
class History:
    r"""What happened in a run of :math:`k` steps.

    Attributes:
        iterates: :math:`\theta_0,\dots,\theta_k`, array ``(k + 1, d)``.
        gradient_points: where the gradient of each step was taken, array ``(k, d)``.
        gaps: :math:`f(\theta_t)-f^\star`, array ``(k + 1,)``.
        grad_norms: :math:`\lVert g_t\rVert` of each step, array ``(k,)``.
        stop: which condition ended the run.
        message: one line that says when it ended and, after a divergence, what to lower.
    """

    iterates: NDArray[np.float64]
    gradient_points: NDArray[np.float64]
    gaps: NDArray[np.float64]
    grad_norms: NDArray[np.float64]
    stop: Stop
    message: str

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.gaps) - 1

    @property
    def theta(self) -> NDArray[np.float64]:
        """The last iterate."""
        last: NDArray[np.float64] = self.iterates[-1]
        return last


def minimize(
    method: Method,
    problem: Problem,
    theta: ArrayLike,
    *,
    lr: float | Schedule,
    momentum: float | Schedule = 0.0,
    steps: int = 1000,
    tolerance: float = 0.0,
) -> History:
    r"""Run ``method`` on ``problem`` from ``theta``.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        problem: what to minimise.
        theta: :math:`\theta_0`, of shape ``(d,)``.
        lr: step size, at least 0, or a schedule ``t -> step size``.
        momentum: coefficient in [0, 1), or a schedule ``t -> coefficient``.
        steps: the budget, 0 or more.
        tolerance: stop before the first step whose gradient norm is at most this; 0 spends the
            whole budget unless the gradient vanishes.

    Returns:
        The history. A run that diverges is returned too: ``stop`` says so, the last iterate is
        the one that gave it away.

    Raises:
        InputError: a shape or range does not fit, or ``momentum`` is given to a method that has
            none.

    >>> from ngs import methods, problems
    >>> f = problems.quadratic([1.0, 4.0])
    >>> run = minimize(methods.gradient_descent, f, [1.0, 1.0], lr=0.25, tolerance=1e-6)
    >>> run.stop, run.steps
    (<Stop.TOLERANCE: 'tolerance'>, 49)
    """
    point = np.array(theta, dtype=np.float64)
    if point.shape != (problem.dimension,):
        raise InputError(f"theta must have shape ({problem.dimension},), got {point.shape}")
    if not np.isfinite(point).all():
        raise InputError(f"theta must be finite, got {point}")
    if steps < 0:
        raise InputError(f"steps must be 0 or more, got {steps}")
    if not tolerance >= 0.0:
        raise InputError(f"tolerance must be at least 0, got {tolerance}")
    if momentum != 0.0 and not method.uses_momentum:
        raise InputError(f"{method.name} has no momentum: leave it out, got {momentum}")
    lr_at = lr if callable(lr) else Constant(lr)
    momentum_at = momentum if callable(momentum) else Constant(momentum)

    state = start(point)
    iterates, points, norms = [point], [], []
    gaps = [problem.value(point) - problem.minimum]
    rounding = max(np.finfo(float).eps * abs(problem.minimum), np.finfo(float).tiny)
    stop, message = Stop.BUDGET, f"stopped after the budget of {steps} steps"
    for t in range(steps):
        eta, beta = _checked(lr_at(t), momentum_at(t), t)
        at = method.gradient_point(state, beta)
        grad = problem.grad(at)
        norm = float(np.linalg.norm(grad))
        if norm <= tolerance:
            stop = Stop.TOLERANCE
            message = f"gradient norm {norm:.3g} at step {t} is within the tolerance {tolerance:g}"
            break
        state = method.step(state, grad, eta, beta)
        gap = problem.value(state.theta) - problem.minimum
        iterates.append(state.theta)
        points.append(at)
        norms.append(norm)
        gaps.append(gap)
        if not gap <= DIVERGED * max(gaps[0], rounding):
            stop = Stop.DIVERGENCE
            message = (
                f"diverged at step {t}: lower lr (it was {eta:g}; 2/L = {2.0 / problem.L:g})"
                + (f" or momentum (it was {beta:g})" if method.uses_momentum else "")
            )
            break
    return History(
        iterates=np.array(iterates),
        gradient_points=np.array(points).reshape(len(points), problem.dimension),
        gaps=np.array(gaps),
        grad_norms=np.array(norms),
        stop=stop,
        message=message,
    )


def _checked(lr: float, momentum: float, t: int) -> tuple[float, float]:
    if not (np.isfinite(lr) and lr >= 0.0):
        raise InputError(f"lr must be finite and at least 0, got {lr} at step {t}")
    if not 0.0 <= momentum < 1.0:
        raise InputError(f"momentum must lie in [0, 1), got {momentum} at step {t}")
    return lr, momentum
