"""The loop: run a method on a problem until a stop condition, and keep the history.

It rests on :mod:`ngs.methods`, :mod:`ngs.problems` and :mod:`ngs.schedules`, on NumPy and tqdm.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ngs.errors import InputError
from ngs.methods import Method
from ngs.problems import Problem
from ngs.schedules import Constant, Momentum, Schedule, coefficients_at

DIVERGED = 1e12
"""A gap to the minimum this many times the one at the start counts as divergence.

(A start nearer to the minimum than rounding can tell counts as one rounding error away; where the
minimum is unknown, the larger of the first two values' sizes stands for the gap.)
"""


class Stop(StrEnum):
    """Why a run ended."""

    TOLERANCE = "tolerance"
    TARGET = "target"
    BUDGET = "budget"
    DIVERGENCE = "divergence"


class Restart(StrEnum):
    r"""When to throw the velocity away (O'Donoghue & Candès 2015, section 3.2).

    ``FUNCTION``: after a step with :math:`f(\theta_{t+1}) > f(\theta_t)`.
    ``GRADIENT``: after a step with :math:`\langle g_t, \theta_{t+1} - \theta_t\rangle > 0`, the
    gradient at the look-ahead point; it needs no value of :math:`f`.
    """

    FUNCTION = "function"
    GRADIENT = "gradient"


@dataclass(frozen=True)
class History:
    r"""What happened in a run of :math:`k` steps.

    Attributes:
        iterates: :math:`\theta_0,\dots,\theta_k`, array ``(k + 1, d)``.
        gradient_points: where the gradient of each step was taken, array ``(k, d)``: for
            Nesterov's method the look-ahead points :math:`y_0,\dots,y_{k-1}`.
        values: :math:`f(\theta_t)`, array ``(k + 1,)``.
        grad_norms: :math:`\lVert g_t\rVert` of each step, array ``(k,)``.
        restarts: the steps after which the velocity was thrown away, in their order.
        minimum: :math:`f^\star`, or ``None`` where the problem does not know it.
        stop: which condition ended the run.
        message: one line that says when it ended and, after a divergence, what to lower.
    """

    iterates: NDArray[np.float64]
    gradient_points: NDArray[np.float64]
    values: NDArray[np.float64]
    grad_norms: NDArray[np.float64]
    restarts: tuple[int, ...]
    minimum: float | None
    stop: Stop
    message: str

    @property
    def gaps(self) -> NDArray[np.float64]:
        r""":math:`f(\theta_t)-f^\star`, array ``(k + 1,)``.

        Raises:
            InputError: the problem does not know its minimum.
        """
        if self.minimum is None:
            raise InputError("the minimum of this problem is unknown: look at values, not gaps")
        return self.values - self.minimum

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.values) - 1

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
    momentum: Momentum = 0.0,
    steps: int = 1000,
    tolerance: float = 0.0,
    target: float | None = None,
    restart: Restart | str | None = None,
    progress: bool | None = None,
) -> History:
    r"""Run ``method`` on ``problem`` from ``theta``.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        problem: what to minimise.
        theta: :math:`\theta_0`, of shape ``(d,)``.
        lr: step size, at least 0, or a schedule ``t -> step size``.
        momentum: coefficient in [0, 1), or a schedule ``t -> coefficient``; a tuple, or a schedule
            of tuples, for a method that takes several (see ``method.coefficients``).
        steps: the budget, 0 or more.
        tolerance: stop before the first step whose gradient norm is at most this; 0 spends the
            whole budget unless the gradient vanishes.
        target: stop after the first step whose gap :math:`f(\theta_t)-f^\star` is at most this;
            ``None`` for no such stop.
        restart: a :class:`Restart` or its name: start again at rest from the iterate where the
            velocity does harm. The momentum schedule starts again at 0 too; the step size goes on.
        progress: show a progress bar. ``None`` shows one on a terminal, for what takes longer than
            two seconds.

    Returns:
        The history. A run that diverges is returned too: ``stop`` says so, the last iterate is
        the one that gave it away.

    Raises:
        InputError: a shape or range does not fit, ``momentum`` is not what the method takes,
            ``restart`` is unknown or the method has nothing to restart, or ``target`` is given for
            a problem whose minimum is unknown.

    >>> from ngs import methods, problems
    >>> f = problems.quadratic([1.0, 4.0])
    >>> run = minimize(methods.gradient_descent, f, [1.0, 1.0], lr=0.25, tolerance=1e-6)
    >>> run.stop, run.steps
    (<Stop.TOLERANCE: 'tolerance'>, 49)
    """
    point = np.array(theta, dtype=np.float64)
    _check(method, problem, point, steps, tolerance, target)
    scheme = _restart_scheme(method, restart)
    lr_at = lr if callable(lr) else Constant(lr)

    state = method.start(point)
    iterates, points, norms, restarts = [point], [], [], []
    values = [problem.value(point)]
    stop, message = Stop.BUDGET, f"stopped after the budget of {steps} steps"
    clock = 0  # the momentum schedule's own time: it starts again after a restart
    silent = None if progress is None else not progress
    delay = 2.0 if progress is None else 0.0
    with (
        tqdm(total=steps, desc=method.name, unit="step", disable=silent, delay=delay) as bar,
        np.errstate(over="ignore", invalid="ignore"),  # a divergence is reported, not warned of
    ):
        for t in range(steps):
            eta, betas = _checked(method, lr_at(t), coefficients_at(method, momentum, clock), t)
            at = method.gradient_point(state, *betas)
            grad = problem.grad(at)
            norm = float(np.linalg.norm(grad))
            if norm <= tolerance:
                stop = Stop.TOLERANCE
                message = (
                    f"gradient norm {norm:.3g} at step {t} is within the tolerance {tolerance:g}"
                )
                break
            state = method.step(state, grad, eta, *betas)
            iterates.append(method.iterate(state, *betas))
            points.append(at)
            norms.append(norm)
            values.append(problem.value(iterates[-1]))
            clock += 1
            bar.update()
            if not values[-1] <= _ceiling(values, problem.minimum):
                stop, message = Stop.DIVERGENCE, _advice(method, problem, t, eta, betas)
                break
            if target is not None and values[-1] - (problem.minimum or 0.0) <= target:
                stop = Stop.TARGET
                message = f"the gap is within the target {target:g} after step {t}"
                break
            if _harmful(scheme, values, grad, iterates):
                state, clock = method.start(iterates[-1]), 0
                restarts.append(t)
    return History(
        iterates=np.array(iterates),
        gradient_points=np.array(points).reshape(len(points), problem.dimension),
        values=np.array(values),
        grad_norms=np.array(norms),
        restarts=tuple(restarts),
        minimum=problem.minimum,
        stop=stop,
        message=message,
    )


def _check(
    method: Method,
    problem: Problem,
    point: NDArray[np.float64],
    steps: int,
    tolerance: float,
    target: float | None,
) -> None:
    if point.shape != (problem.dimension,):
        raise InputError(f"theta must have shape ({problem.dimension},), got {point.shape}")
    if not np.isfinite(point).all():
        raise InputError(f"theta must be finite, got {point}")
    if steps < 0:
        raise InputError(f"steps must be 0 or more, got {steps}")
    if not tolerance >= 0.0:
        raise InputError(f"tolerance must be at least 0, got {tolerance}")
    if target is not None and problem.minimum is None:
        raise InputError(f"the minimum of {problem.name} is unknown: leave target out")
    if target is not None and not target >= 0.0:
        raise InputError(f"target must be at least 0, got {target}")


def _restart_scheme(method: Method, restart: Restart | str | None) -> Restart | None:
    if restart is None:
        return None
    if not method.coefficients:
        raise InputError(f"{method.name} has no velocity to throw away: leave restart out")
    try:
        return Restart(restart)
    except ValueError:
        allowed = " or ".join(repr(str(r)) for r in Restart)
        raise InputError(f"restart must be {allowed}, got {restart!r}") from None


def _checked(
    method: Method, lr: float, coefficients: tuple[float, ...], t: int
) -> tuple[float, tuple[float, ...]]:
    if not (np.isfinite(lr) and lr >= 0.0):
        raise InputError(f"lr must be finite and at least 0, got {lr} at step {t}")
    for name, value in zip(method.coefficients, coefficients, strict=True):
        if name.endswith("momentum") and not 0.0 <= value < 1.0:
            raise InputError(f"{name} must lie in [0, 1), got {value} at step {t}")
        if not np.isfinite(value):
            raise InputError(f"{name} must be finite, got {value} at step {t}")
    return lr, coefficients


def _ceiling(values: list[float], minimum: float | None) -> float:
    """Return the value above which a run counts as diverged."""
    if minimum is None:
        # The first value alone may be close to 0 by chance, and then anything would be far above.
        sizes = [abs(value) for value in values[:2] if np.isfinite(value)]
        return DIVERGED * max(*sizes, np.finfo(float).tiny)
    rounding = max(np.finfo(float).eps * abs(minimum), np.finfo(float).tiny)
    return minimum + DIVERGED * max(values[0] - minimum, rounding)


def _advice(
    method: Method, problem: Problem, t: int, lr: float, coefficients: tuple[float, ...]
) -> str:
    limit = "" if problem.L is None else f"; 2/L = {2.0 / problem.L:g}"
    advice = f"diverged at step {t}: lower lr (it was {lr:g}{limit})"
    if "momentum" in method.coefficients:
        beta = coefficients[method.coefficients.index("momentum")]
        advice += f" or momentum (it was {beta:g})"
    return advice


def _harmful(
    scheme: Restart | None, values: list[float], grad: Any, iterates: list[NDArray[np.float64]]
) -> bool:
    if scheme is Restart.FUNCTION:
        return values[-1] > values[-2]
    if scheme is Restart.GRADIENT:
        return float(grad @ (iterates[-1] - iterates[-2])) > 0.0
    return False
