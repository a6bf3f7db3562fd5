"""Sequences of momentum and step size: ``schedule(t)`` is the coefficient of step t = 0, 1, ...

Each is a small frozen dataclass, so it prints, compares and pickles. It rests on the standard
library; bad parameters raise :class:`ngs.errors.InputError`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ngs.errors import InputError

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same value at every step.

    >>> Constant(0.9)(0)
    0.9
    """

    value: float

    def __call__(self, t: int) -> float:
        """Return the value, whatever ``t``."""
        return self.value


@dataclass(frozen=True)
class NesterovMomentum:
    r"""Nesterov's sequence for smooth convex functions.

    .. math:: \lambda_1 = 1, \quad \lambda_{k+1} = \tfrac12\bigl(1 + \sqrt{1 + 4\lambda_k^2}\bigr),
              \qquad \beta_0 = 0, \quad \beta_t = \frac{\lambda_t - 1}{\lambda_{t+1}}

    With :math:`\eta = 1/L` it gives
    :math:`f(\theta_k) - f^\star \le LR^2/(2\lambda_k^2) \le 2LR^2/(k+1)^2`.
    Source: Nesterov (1983); Beck & Teboulle (2009), Theorem 4.4.

    >>> [round(NesterovMomentum()(t), 4) for t in range(4)]
    [0.0, 0.0, 0.2818, 0.434]
    """

    def __call__(self, t: int) -> float:
        """Return the momentum coefficient of step ``t``."""
        if t == 0:
            return 0.0
        return (nesterov_lambda(t) - 1.0) / nesterov_lambda(t + 1)


def nesterov_lambda(k: int) -> float:
    r"""Return :math:`\lambda_k` for ``k`` = 1, 2, ...

    Raises:
        InputError: ``k`` is below 1.

    >>> nesterov_lambda(1)
    1.0
    """
    if k < 1:
        raise InputError(f"k must be 1 or more, got {k}")
    while len(_lambdas) < k:
        _lambdas.append((1.0 + math.sqrt(1.0 + 4.0 * _lambdas[-1] ** 2)) / 2.0)
    return _lambdas[k - 1]


_lambdas = [1.0]  # grown as asked for, so that a run of k steps costs k square roots


@dataclass(frozen=True)
class StronglyConvexMomentum:
    r"""The constant coefficient for condition number :math:`\kappa = L/\mu`.

    .. math:: \beta = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}

    Source: Nesterov (2004), scheme (2.2.11).

    Raises:
        InputError: ``kappa`` is below 1 or infinite.

    >>> StronglyConvexMomentum(100.0)(0)
    0.8181818181818182
    """

    kappa: float

    def __post_init__(self) -> None:
        if not 1.0 <= self.kappa < math.inf:
            raise InputError(f"kappa = L/mu must be finite and 1 or more, got {self.kappa}")

    def __call__(self, t: int) -> float:
        """Return the coefficient, the same at every step."""
        root = math.sqrt(self.kappa)
        return (root - 1.0) / (root + 1.0)


@dataclass(frozen=True)
class WarmupCosine:
    r"""Rise linearly to ``peak``, then fall to zero along half a cosine.

    Step ``t`` of the first ``warmup`` steps has :math:`\text{peak}\,(t+1)/\text{warmup}`; the last
    of ``total`` steps is the last one above zero.

    Args:
        peak: the largest value, reached at the end of the warm-up.
        total: number of steps, 1 or more.
        warmup: number of warm-up steps, from 0 to ``total``.

    Raises:
        InputError: ``total`` or ``warmup`` is out of range.

    >>> [WarmupCosine(1.0, total=4, warmup=2)(t) for t in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    peak: float
    total: int
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.total < 1:
            raise InputError(f"total must be 1 step or more, got {self.total}")
        if not 0 <= self.warmup <= self.total:
            raise InputError(f"warmup must lie in 0 .. total = {self.total}, got {self.warmup}")

    def __call__(self, t: int) -> float:
        """Return the value at step ``t``; zero from step ``total`` on."""
        if t < self.warmup:
            return self.peak * (t + 1) / self.warmup
        if t >= self.total:
            return 0.0
        progress = (t - self.warmup) / (self.total - self.warmup)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * progress))
