"""What a schedule is, and how a method reads its coefficients from one.

It rests on :mod:`ngs.methods`.
"""

import math
from collections.abc import Callable

from ngs.errors import InputError
from ngs.methods import Method

Schedule = Callable[[int], float]
"""The coefficient of step t."""
VectorSchedule = Callable[[int], float | tuple[float, ...]]
"""The coefficients of step t, for a method that takes several."""
Momentum = float | tuple[float, ...] | VectorSchedule
"""What a user may give: one number, several, or a schedule of either."""


def coefficients_at(method: Method, momentum: Momentum, t: int) -> tuple[float, ...]:
    """Return what ``method`` takes besides the step size at step ``t``.

    Args:
        method: one of :data:`ngs.methods.METHODS`.
        momentum: a number, a tuple of numbers, or a schedule of either. A coefficient that the
            method calls ``next_...`` is read from the schedule at ``t + 1``.
        t: the step.

    Raises:
        InputError: the method takes another number of coefficients.

    >>> from ngs import methods
    >>> from ngs.schedules import SimplifiedMomentum
    >>> coefficients_at(methods.nesterov_stored, SimplifiedMomentum(), 4)
    (0.5, 0.5714285714285714)
    """
    given = [name for name in method.coefficients if not name.startswith("next_")]
    if not given:
        if callable(momentum) or momentum not in (0.0, ()):
            raise InputError(f"{method.name} has no momentum: leave it out, got {momentum}")
        return ()
    now = _numbers_at(method, given, momentum, t)
    if len(given) == len(method.coefficients):
        return now
    return now + _numbers_at(method, given, momentum, t + 1)


def _numbers_at(method: Method, names: list[str], momentum: Momentum, t: int) -> tuple[float, ...]:
    value = momentum(t) if callable(momentum) else momentum
    numbers = tuple(value) if isinstance(value, tuple) else (value,)
    if len(numbers) != len(names):
        raise InputError(
            f"{method.name} takes {' and '.join(names)}, {len(names)} number(s) a step, "
            f"got {len(numbers)} at step {t}"
        )
    return numbers


def check_steps(steps: int) -> None:
    """Raise InputError unless ``steps`` is 1 or more."""
    if steps < 1:
        raise InputError(f"steps must be 1 or more, got {steps}")


def check_kappa(kappa: float) -> None:
    """Raise InputError unless ``kappa`` can be a condition number."""
    if not 1.0 <= kappa < math.inf:
        raise InputError(f"kappa = L/mu must be finite and 1 or more, got {kappa}")
