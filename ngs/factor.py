r"""The acceleration factor: how the learning rate is learned, in scalars alone.

A step :math:`\theta_t = \theta_{t-1} - \alpha\,\eta\,d_{t-1}` along a direction :math:`d_{t-1}` has
:math:`\partial f(\theta_t)/\partial\alpha = -\eta\,\langle g_t, d_{t-1}\rangle`: a positive inner
product says that a longer step would have gone further down. A rule takes inner products and gives
the next factor :math:`\alpha`; every framework computes the inner products in its own way and asks
the same rule. It rests on the standard library.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ngs.errors import InputError

Rule = Callable[[float, float, float, float], float]
"""``(factor, inner, grad_square, direction_square) -> factor``."""


@dataclass(frozen=True)
class MultiplicativeRule:
    r"""Multiply the factor by a number that depends on the angle alone, within bounds.

    .. math:: \alpha_t = \alpha_{t-1}\,e^{\gamma(c_t - c^\star)}, \qquad
              c_t = \frac{\langle g_t, d_{t-1}\rangle}{\lVert g_t\rVert\,\lVert d_{t-1}\rVert}

    The factor stays positive, and the rule does not change when the loss or the gradients are
    multiplied by a number. Where one of the vectors is zero, or a product is not finite, the
    factor stays.

    Args:
        gain: :math:`\gamma`, above 0.
        target: :math:`c^\star` in (-1, 1), the cosine that is aimed at. 0 is the greedy choice;
            a little below it goes further than the next step alone would like.
        minimum: smallest factor, above 0.
        maximum: largest factor, at least ``minimum``.

    Raises:
        InputError: a parameter is out of range.

    Source: the sign is that of Baydin et al. (2018), hypergradient descent; chapter 8.

    >>> rule = MultiplicativeRule(gain=1.0, target=0.0)
    >>> rule(1.0, inner=-4.0, grad_square=4.0, direction_square=4.0) == math.exp(-1.0)
    True
    """

    gain: float = 0.15
    target: float = -0.1
    minimum: float = 1e-4
    maximum: float = 1e4

    def __post_init__(self) -> None:
        if not 0.0 < self.gain < math.inf:
            raise InputError(f"gain must be finite and above 0, got {self.gain}")
        if not -1.0 < self.target < 1.0:
            raise InputError(f"target must lie in (-1, 1), got {self.target}")
        if not 0.0 < self.minimum <= self.maximum < math.inf:
            raise InputError(
                "minimum and maximum must be finite with 0 < minimum <= maximum, got "
                f"{self.minimum} and {self.maximum}"
            )

    def __call__(
        self, factor: float, inner: float, grad_square: float, direction_square: float
    ) -> float:
        r"""Return the next factor.

        Args:
            factor: :math:`\alpha_{t-1}`.
            inner: :math:`\langle g_t, d_{t-1}\rangle`.
            grad_square: :math:`\lVert g_t\rVert^2`.
            direction_square: :math:`\lVert d_{t-1}\rVert^2`.
        """
        norms = math.sqrt(grad_square) * math.sqrt(direction_square)
        if not (math.isfinite(inner) and math.isfinite(norms) and norms > 0.0):
            return factor
        cosine = min(max(inner / norms, -1.0), 1.0)
        grown = factor * math.exp(self.gain * (cosine - self.target))
        return min(max(grown, self.minimum), self.maximum)


@dataclass(frozen=True)
class AdditiveRule:
    r"""Hypergradient descent as it was published: add a multiple of the inner product.

    .. math:: \alpha_t = \alpha_{t-1} + \gamma\,\langle g_t, d_{t-1}\rangle

    It depends on the scale of the loss, and nothing keeps the factor positive: chapter 8 shows
    both. It is here to be compared with.

    Args:
        gain: :math:`\gamma`, above 0, in units of one over a squared gradient.

    Raises:
        InputError: ``gain`` is out of range.

    Source: Baydin et al. (2018), equation 5, for SGD and SGD with Nesterov momentum.

    >>> AdditiveRule(gain=0.5)(1.0, inner=-4.0, grad_square=4.0, direction_square=4.0)
    -1.0
    """

    gain: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 < self.gain < math.inf:
            raise InputError(f"gain must be finite and above 0, got {self.gain}")

    def __call__(
        self, factor: float, inner: float, grad_square: float, direction_square: float
    ) -> float:
        r"""Return the next factor.

        Args:
            factor: :math:`\alpha_{t-1}`.
            inner: :math:`\langle g_t, d_{t-1}\rangle`.
            grad_square: not used; present so that all rules are called alike.
            direction_square: not used either.
        """
        return factor + self.gain * inner


@dataclass
class Memory:
    """What :func:`gradscaling_step` must remember from one call to the next.

    Attributes:
        factor: the acceleration factor of the last call.
        direction: the gradients of the last call, along which the last step went.
    """

    factor: float = 1.0
    direction: list[Any] = field(default_factory=list)


def gradscaling_step(
    parameters: Sequence[Any],
    gradients: Sequence[Any],
    objective: Callable[[Sequence[Any]], float],
    *,
    memory: Memory | None = None,
    rule: Rule | None = None,
) -> tuple[list[Any], float]:
    r"""Return the gradients times the acceleration factor, and the loss.

    This is the signature that popular articles print for *Nesterov Gradient Scaling*. As printed
    it cannot work: a factor is learned from two gradients in a row, and a function of one of them
    knows no other. What is missing is the ``memory``, which the caller keeps and hands in at every
    call; without it the factor is 1 and the gradients come back as they are.

    The direction of the last step is taken to be the last gradients, as in gradient descent. An
    optimizer with momentum knows its true direction: use :class:`ngs.optim.torch.NGS`.

    Args:
        parameters: arrays or tensors of any shapes, or numbers; they are only handed to
            ``objective``.
        gradients: one for each parameter, of the same shape.
        objective: ``parameters -> loss``.
        memory: made once with ``Memory()`` and handed in at every step; it is changed in place.
        rule: how the next factor follows; :class:`MultiplicativeRule` by default.

    Returns:
        New scaled gradients (what was handed in is not changed), and ``objective(parameters)``.

    Raises:
        InputError: there are not as many gradients as parameters, or a shape has changed.

    >>> def bowl(parameters):
    ...     return parameters[0] ** 2 / 2
    >>> memory = Memory()
    >>> for theta in (1.0, 0.9):
    ...     scaled, loss = gradscaling_step([theta], [theta], bowl, memory=memory)
    >>> round(scaled[0] / 0.9, 3), round(loss, 3)  # same direction: e^(0.15 * 1.1) times longer
    (1.179, 0.405)
    """
    if len(parameters) != len(gradients):
        raise InputError(
            f"there must be one gradient for each parameter, got {len(gradients)} gradients for "
            f"{len(parameters)} parameters"
        )
    for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        if getattr(parameter, "shape", ()) != getattr(gradient, "shape", ()):
            raise InputError(
                f"gradient {i} must have the shape of its parameter, {parameter.shape}, got "
                f"{getattr(gradient, 'shape', ())}"
            )
    loss = float(objective(parameters))
    if memory is None:
        return [1.0 * g for g in gradients], loss
    if memory.direction:
        inner = _dot(gradients, memory.direction)
        squares = _dot(gradients, gradients), _dot(memory.direction, memory.direction)
        memory.factor = (rule or MultiplicativeRule())(memory.factor, inner, *squares)
    memory.direction = [1.0 * g for g in gradients]  # copies: the caller's may be overwritten
    return [memory.factor * g for g in gradients], loss


def _dot(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return the inner product over all parts."""
    if [getattr(x, "shape", ()) for x in first] != [getattr(x, "shape", ()) for x in second]:
        raise InputError(
            "the gradients must keep number and shapes from call to call: make a new Memory() "
            "for a new model"
        )
    products = (a * b for a, b in zip(first, second, strict=True))
    return float(sum(float(p.sum()) if hasattr(p, "sum") else float(p) for p in products))
