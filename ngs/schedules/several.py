"""Coefficients of the methods that take several at a step.

They rest on :mod:`ngs.schedules.momentum`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from ngs.errors import InputError
from ngs.schedules.kinds import check_kappa, check_steps
from ngs.schedules.momentum import nesterov_lambda


class OptimizedCoefficients(NamedTuple):
    r"""What :data:`ngs.methods.ogm` takes at a step: :math:`\beta_t` and :math:`\gamma_t`."""

    momentum: float
    correction: float


@dataclass(frozen=True)
class OptimizedMomentum:
    r"""The coefficients of the optimized gradient method for exactly ``steps`` steps.

    .. math:: \vartheta_0 = 1,\quad \vartheta_t = \tfrac12\Bigl(1+\sqrt{1+4\vartheta_{t-1}^2}\Bigr),
              \quad \vartheta_N = \tfrac12\Bigl(1+\sqrt{1+8\vartheta_{N-1}^2}\Bigr);\qquad
              \beta_t = \frac{\vartheta_t-1}{\vartheta_{t+1}},\quad
              \gamma_t = \frac{\vartheta_t}{\vartheta_{t+1}}

    With :math:`\eta = 1/L`, :math:`f(y_N)-f^\star \le LR^2/(2\vartheta_N^2)`, and no first-order
    method has a better worst case.

    Args:
        steps: :math:`N`, 1 or more. The last step is a special one, so the number must be known.

    Raises:
        InputError: ``steps`` is below 1, or a step after the last one is asked for.

    Source: Kim & Fessler (2016), Theorem 2; optimality: Drori (2017), Theorem 3.

    >>> OptimizedMomentum(1)(0)
    OptimizedCoefficients(momentum=0.0, correction=0.5)
    """

    steps: int

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, t: int) -> OptimizedCoefficients:
        """Return the two coefficients of step ``t``, from 0 to ``steps`` - 1."""
        if not 0 <= t < self.steps:
            raise InputError(
                f"OptimizedMomentum({self.steps}) has coefficients for steps 0 .. "
                f"{self.steps - 1}, got {t}: make it for as many steps as you take"
            )
        now, after = self.weight(t), self.weight(t + 1)
        return OptimizedCoefficients((now - 1.0) / after, now / after)

    def weight(self, t: int) -> float:
        r"""Return :math:`\vartheta_t`."""
        if t < self.steps:
            return nesterov_lambda(t + 1)
        return 0.5 * (1.0 + math.sqrt(1.0 + 8.0 * nesterov_lambda(self.steps) ** 2))


class TripleCoefficients(NamedTuple):
    r"""What :data:`ngs.methods.triple_momentum` takes: :math:`\beta,\gamma,\delta`."""

    momentum: float
    peek: float
    output: float


@dataclass(frozen=True)
class TripleMomentum:
    r"""The constant coefficients of triple momentum for condition number :math:`\kappa = L/\mu`.

    .. math:: \rho = 1-\frac1{\sqrt\kappa}, \qquad \eta = \frac{1+\rho}L, \quad
              \beta = \frac{\rho^2}{2-\rho}, \quad
              \gamma = \frac{\rho^2}{(1+\rho)(2-\rho)}, \quad \delta = \frac{\rho^2}{1-\rho^2}

    Args:
        kappa: condition number, finite and 1 or more.

    Raises:
        InputError: ``kappa`` is out of range.

    Source: Van Scoy, Freeman & Lynch (2018), section III.

    >>> [round(x, 4) for x in TripleMomentum(4.0)(0)]
    [0.1667, 0.1111, 0.3333]
    """

    kappa: float

    def __post_init__(self) -> None:
        check_kappa(self.kappa)

    def __call__(self, t: int) -> TripleCoefficients:
        """Return the coefficients, the same at every step."""
        rho = 1.0 - 1.0 / math.sqrt(self.kappa)
        return TripleCoefficients(
            momentum=rho**2 / (2.0 - rho),
            peek=rho**2 / ((1.0 + rho) * (2.0 - rho)),
            output=rho**2 / (1.0 - rho**2),
        )

    def step_size(self, L: float) -> float:
        r"""Return :math:`\eta = (1+\rho)/L`, the step size that belongs to the coefficients."""
        return (2.0 - 1.0 / math.sqrt(self.kappa)) / L


class AnchorMomentum(NamedTuple):
    r"""What :data:`ngs.methods.three_sequences` takes: :math:`\tau_t, a_t, \sigma_t`."""

    mixing: float
    pull: float
    stride: float


@dataclass(frozen=True)
class ConvexAnchor:
    r"""Nesterov's sequence for the three-sequence form.

    .. math:: \tau_t = 1/\lambda_{t+1}, \qquad a_t = 0, \qquad \sigma_t = \lambda_{t+1}

    The method is that of :class:`NesterovMomentum`, with the same bound.
    Source: Nesterov (2004), section 2.2; chapter 3 proves that the two are equal.

    >>> ConvexAnchor()(0)
    AnchorMomentum(mixing=1.0, pull=0.0, stride=1.0)
    """

    def __call__(self, t: int) -> AnchorMomentum:
        """Return the coefficients of step ``t``."""
        weight = nesterov_lambda(t + 1)
        return AnchorMomentum(1.0 / weight, 0.0, weight)


@dataclass(frozen=True)
class StronglyConvexAnchor:
    r"""The constants that make the three-sequence form the one of :class:`StronglyConvexMomentum`.

    .. math:: \tau = \frac1{\sqrt\kappa+1}, \; a = \frac1{\sqrt\kappa}, \; \sigma = \sqrt\kappa

    Args:
        kappa: condition number, finite and 1 or more.

    Raises:
        InputError: ``kappa`` is out of range.

    Source: Nesterov (2004), section 2.2.

    >>> StronglyConvexAnchor(4.0)(0)
    AnchorMomentum(mixing=0.3333333333333333, pull=0.5, stride=2.0)
    """

    kappa: float

    def __post_init__(self) -> None:
        check_kappa(self.kappa)

    def __call__(self, t: int) -> AnchorMomentum:
        """Return the coefficients, the same at every step."""
        root = math.sqrt(self.kappa)
        return AnchorMomentum(1.0 / (root + 1.0), 1.0 / root, root)
