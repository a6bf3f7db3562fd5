"""The momentum sequences of the theory and of deep learning, one number a step.

They rest on the standard library.
"""

import math
from dataclasses import dataclass

from ngs.errors import InputError
from ngs.schedules.kinds import check_kappa


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
class SimplifiedMomentum:
    r"""The sequence without square roots, :math:`\beta_t = \max\bigl(0, \tfrac{t-1}{t+2}\bigr)`.

    With :math:`\eta = 1/L` the worst case is :math:`2LR^2/(k^2+5k+6)`: performance estimation finds
    it for every k that was tried; a proof for all k is not known to us. The index matters: with
    :math:`t/(t+3)` at step :math:`t` it is another method with another worst case.

    Source: Su, Boyd & Candès (2016), equation 1; for the worst case PEPit's example
    ``accelerated_gradient_convex_simplified``.

    >>> [SimplifiedMomentum()(t) for t in range(4)]
    [0.0, 0.0, 0.25, 0.4]
    """

    def __call__(self, t: int) -> float:
        """Return the momentum coefficient of step ``t``."""
        return max(0.0, (t - 1) / (t + 2))


@dataclass(frozen=True)
class ChambolleDossalMomentum:
    r"""The sequence under which the iterates themselves converge.

    .. math:: \lambda_k = \frac{k+a-1}{a}, \qquad \beta_0 = 0, \quad
              \beta_t = \frac{\lambda_t-1}{\lambda_{t+1}} = \frac{t-1}{t+a}

    With :math:`\eta = 1/L`,
    :math:`f(\theta_k)-f^\star \le \tfrac{LR^2}{2\lambda_k^2} = \tfrac{a^2LR^2}{2(k+a-1)^2}`.
    With :math:`a = 2` it is :class:`SimplifiedMomentum`.

    Args:
        a: 2 or more; the iterates are known to converge for ``a`` above 2.

    Raises:
        InputError: ``a`` is below 2 or not finite.

    Source: Chambolle & Dossal (2015).

    >>> [round(ChambolleDossalMomentum(3.0)(t), 3) for t in range(4)]
    [0.0, 0.0, 0.2, 0.333]
    """

    a: float = 3.0

    def __post_init__(self) -> None:
        if not 2.0 <= self.a < math.inf:
            raise InputError(f"a must be finite and 2 or more, got {self.a}")

    def __call__(self, t: int) -> float:
        """Return the momentum coefficient of step ``t``."""
        return max(0.0, (t - 1) / (t + self.a))


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
        check_kappa(self.kappa)

    def __call__(self, t: int) -> float:
        """Return the coefficient, the same at every step."""
        root = math.sqrt(self.kappa)
        return (root - 1.0) / (root + 1.0)


@dataclass(frozen=True)
class SutskeverMomentum:
    r"""The schedule of the paper that brought Nesterov's method to deep learning.

    .. math:: \beta_t = \min\bigl\{1 - 2^{-1-\log_2(\lfloor t/250\rfloor+1)},\ \beta_{\max}\bigr\}

    that is, 1/2, 3/4, 5/6, 7/8, ... for 250 steps each, up to ``maximum``; and ``final`` for the
    last steps, with the learning rate left as it is.

    Args:
        maximum: :math:`\beta_{\max}` in [0, 1); the paper tries .999, .995, .99, .9 and 0.
        total: number of steps; ``None`` for no final drop.
        final_steps: how many of them are the last ones, from 0 to ``total``; the paper has 1000.
        final: coefficient of these last steps; the paper has 0.9. One that is already smaller
            stays.

    Raises:
        InputError: a coefficient or a number of steps is out of range.

    Source: Sutskever, Martens, Dahl & Hinton (2013), section 3, equation 5.

    >>> schedule = SutskeverMomentum(0.99, total=10_000)
    >>> [schedule(t) for t in (0, 250, 500, 8_999, 9_000)]
    [0.5, 0.75, 0.8333333333333334, 0.9861111111111112, 0.9]
    """

    maximum: float = 0.99
    total: int | None = None
    final_steps: int = 1000
    final: float = 0.9

    def __post_init__(self) -> None:
        for name, value in (("maximum", self.maximum), ("final", self.final)):
            if not 0.0 <= value < 1.0:
                raise InputError(f"{name} must lie in [0, 1), got {value}")
        if self.total is not None and not 0 <= self.final_steps <= self.total:
            raise InputError(
                f"final_steps must lie in 0 .. total = {self.total}, got {self.final_steps}"
            )

    def __call__(self, t: int) -> float:
        """Return the momentum coefficient of step ``t``."""
        value = min(1.0 - 0.5 / (t // 250 + 1), self.maximum)
        if self.total is not None and t >= self.total - self.final_steps:
            return min(value, self.final)
        return value
