r"""The acceleration factor: how the learning rate is learned, in scalars alone.

A step :math:`\theta_t = \theta_{t-1} - \alpha\,\eta\,d_{t-1}` along a direction :math:`d_{t-1}` has
:math:`\partial f(\theta_t)/\partial\alpha = -\eta\,\langle g_t, d_{t-1}\rangle`: a positive inner
product says that a longer step would have gone further down. A rule takes inner products and gives
the next factor :math:`\alpha`; every framework computes the inner products in its own way and asks
the same rule, with its own :mod:`ngs.arithmetic`. It rests on that alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ngs.arithmetic import FLOATS, Arithmetic, Number
from ngs.errors import InputError


class Signal(NamedTuple):
    r"""What a step tells a rule.

    Attributes:
        inner: :math:`\langle g_t, d_{t-1}\rangle`, gradient and direction travelled.
        grad_square: :math:`\lVert g_t\rVert^2`.
        direction_square: :math:`\lVert d_{t-1}\rVert^2`.
        lr: the learning rate that the schedule has at this step, before any factor.
    """

    inner: float
    grad_square: float
    direction_square: float
    lr: float = 1.0


class FactorState(NamedTuple):
    r"""The factor, and what a rule must remember from step to step; plain numbers, so it is saved.

    Attributes:
        factor: :math:`\alpha_t`, the learned part.
        damping: what this one step is multiplied by besides.
        peak: the largest learning rate of the schedule so far.
        cosine: running mean of the cosine.
        reference: the largest running mean so far, at least 0.
        crossings: how often the cosine has crossed its target.
        side: 1 if it was above the target last time, -1 if below, 0 before the first time.
        mean_square: running mean of :math:`\lVert g_t\rVert^2`.
    """

    factor: float = 1.0
    damping: float = 1.0
    peak: float = 0.0
    cosine: float = 0.0
    reference: float = 0.0
    crossings: int = 0
    side: int = 0
    mean_square: float = 0.0


class Rule(Protocol):
    """What an optimizer asks after every step."""

    def follow(self, state: FactorState, signal: Signal, xp: Arithmetic = FLOATS) -> FactorState:
        """Return the next state, whose ``factor * damping`` multiplies the learning rate.

        Args:
            state: the last state.
            signal: what the step tells.
            xp: what to compute with. Optimizers whose steps run in Python leave it out.
        """
        ...


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
        _check_bounds(self.minimum, self.maximum)

    def __call__(
        self,
        factor: Number,
        inner: Number,
        grad_square: Number,
        direction_square: Number,
        xp: Arithmetic = FLOATS,
    ) -> Number:
        r"""Return the next factor.

        Args:
            factor: :math:`\alpha_{t-1}`.
            inner: :math:`\langle g_t, d_{t-1}\rangle`.
            grad_square: :math:`\lVert g_t\rVert^2`.
            direction_square: :math:`\lVert d_{t-1}\rVert^2`.
            xp: what to compute with.
        """
        cosine, known = _cosine(inner, grad_square, direction_square, xp)
        # One step from end to end is as far as the bounds let it go.
        farthest = math.log(self.maximum / self.minimum)
        move = _clipped(self.gain * (cosine - self.target), -farthest, farthest, xp)
        moved = _clipped(factor * xp.exp(move), self.minimum, self.maximum, xp)
        return xp.where(known, moved, factor)

    def follow(self, state: FactorState, signal: Signal, xp: Arithmetic = FLOATS) -> FactorState:
        """Return the state with the next factor; nothing else is remembered."""
        return state._replace(factor=self(state.factor, *signal[:3], xp))


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
        self, factor: Number, inner: Number, grad_square: Number, direction_square: Number
    ) -> Number:
        r"""Return the next factor.

        Args:
            factor: :math:`\alpha_{t-1}`.
            inner: :math:`\langle g_t, d_{t-1}\rangle`.
            grad_square: not used; present so that all rules are called alike.
            direction_square: not used either.
        """
        return factor + self.gain * inner

    def follow(self, state: FactorState, signal: Signal, xp: Arithmetic = FLOATS) -> FactorState:
        """Return the state with the next factor; nothing else is remembered."""
        return state._replace(factor=self(state.factor, *signal[:3]))


@dataclass(frozen=True)
class AngleRule:
    r"""Steer the learning rate by the angle between gradient and direction travelled.

    With :math:`c_t` the cosine of the gradient and the direction, :math:`\bar c_t` its running
    mean, :math:`\eta_t` the learning rate of the schedule, :math:`\hat\eta_t` the largest one so
    far and :math:`k_t` how often :math:`c_t` has crossed its target :math:`c^\star_t`,

    .. math:: c^\star_t = -\kappa\,\max_{s\le t}\,\bar c_s, \qquad
              \ln A_t = \ln A_{t-1} + \frac{\gamma}{1 + k_t/\tau}\,(c_t - c^\star_t), \qquad
              \alpha_t = \frac{A_t}{\hat\eta_t} .

    A step has the learning rate :math:`\rho_t\alpha_t\eta_t`: the learned rate :math:`A_t` takes
    the place of the schedule's peak, and the schedule keeps its shape. (A warm-up, whose rate is a
    new peak at every step, is replaced altogether.) :math:`A` starts at ``start`` times the first
    learning rate, follows the cosine while the schedule stands at ``hold`` of its peak or higher,
    and then lets it decay.

    The noise of a mini-batch makes every cosine smaller. The largest running mean tells how small
    it is when the steps are short, and the target is a share of that. The gain falls with every
    crossing: while the cosine stays on one side the rate moves fast, around the target it settles.
    :math:`\rho_t = \min(1, \sigma m_{t-1}/\lVert g_t\rVert)` shortens a step whose gradient is
    longer than ``spike`` times the root mean square :math:`m_{t-1}` of those before it.

    Args:
        gain: :math:`\gamma`, above 0.
        share: :math:`\kappa` in [0, 1). The greedy 0 ends at a rate far too small; chapter 8 shows
            why, and measures it.
        patience: :math:`\tau`, crossings after which the gain is halved, above 0.
        down: what the gain is multiplied by below the target, above 0.
        smoothing: how much of the running mean of the cosine is kept from step to step, in [0, 1).
        start: what the first learning rate is multiplied by, above 0.
        hold: share of the peak below which the schedule is left alone, in [0, 1].
        spike: :math:`\sigma`, 1 or more; infinite for no damping.
        memory: how much of the mean square is kept from step to step, in [0, 1).
        minimum: smallest factor, above 0.
        maximum: largest factor, at least ``minimum``.

    Raises:
        InputError: a parameter is out of range.

    Source: chapter 8; the derivative is that of Baydin et al. (2018), the gain Kesten's (1958).

    >>> rule = AngleRule(gain=1.0, share=0.0, down=1.0, start=1.0)
    >>> state = rule.follow(FactorState(), Signal(-2.0, 4.0, 4.0, lr=0.1))
    >>> state.factor == math.exp(-0.5)
    True
    """

    gain: float = 0.5
    share: float = 0.25
    patience: float = 3.0
    down: float = 0.5
    smoothing: float = 0.8
    start: float = 0.1
    hold: float = 0.5
    spike: float = 2.0
    memory: float = 0.9
    minimum: float = 1e-6
    maximum: float = 1e6

    def __post_init__(self) -> None:
        for name in ("gain", "patience", "down", "start"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be finite and above 0, got {getattr(self, name)}")
        for name in ("share", "smoothing", "memory"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0.0 <= self.hold <= 1.0:
            raise InputError(f"hold must lie in [0, 1], got {self.hold}")
        if not self.spike >= 1.0:
            raise InputError(f"spike must be 1 or more, got {self.spike}")
        _check_bounds(self.minimum, self.maximum)

    def follow(self, state: FactorState, signal: Signal, xp: Arithmetic = FLOATS) -> FactorState:
        """Return the next state; see the class."""
        lr = signal.lr
        usable = (lr > 0.0) & xp.isfinite(lr)  # a warm-up may start from zero
        # The learned rate A = factor * peak is not raised by the schedule.
        raised = usable & (lr > state.peak)
        ratio = xp.where(state.peak == 0.0, self.start, state.peak / xp.where(usable, lr, 1.0))
        after = state._replace(
            factor=xp.where(raised, state.factor * ratio, state.factor),
            peak=xp.where(raised, lr, state.peak),
        )
        cosine, known = _cosine(signal.inner, signal.grad_square, signal.direction_square, xp)
        steered = self._steer(after, cosine, xp)
        after = _chosen(known & (lr >= self.hold * after.peak), steered, after, xp)
        damping, mean_square = self._damp(state.mean_square, signal.grad_square, xp)
        after = after._replace(
            factor=_clipped(after.factor, self.minimum, self.maximum, xp),
            damping=damping,
            mean_square=mean_square,
        )
        return _chosen(usable, after, state._replace(damping=1.0), xp)

    def _steer(self, state: FactorState, cosine: Number, xp: Arithmetic) -> FactorState:
        """Move the factor by one cosine."""
        kept = xp.where(state.side == 0, 0.0, self.smoothing)
        mean = kept * state.cosine + (1.0 - kept) * cosine
        reference = xp.maximum(state.reference, mean)
        error = cosine + self.share * reference
        side = xp.where(error > 0.0, 1.0, -1.0)
        crossed = side * state.side < 0
        crossings = xp.where(crossed, state.crossings + 1, state.crossings)
        slowed = self.gain / (1.0 + crossings / self.patience)
        gain = slowed * xp.where(error > 0.0, 1.0, self.down)
        return state._replace(
            factor=state.factor * xp.exp(gain * error),
            cosine=mean,
            reference=reference,
            crossings=crossings,
            side=side,
        )

    def _damp(
        self, mean_square: Number, grad_square: Number, xp: Arithmetic
    ) -> tuple[Number, Number]:
        """Return the damping of this step, and the next mean square."""
        usable = (grad_square > 0.0) & xp.isfinite(grad_square)
        known = usable & (mean_square != 0.0)
        longest = self.spike**2 * mean_square
        shorter = xp.sqrt(longest / xp.where(usable, grad_square, 1.0))
        kept = xp.minimum(grad_square, longest)  # or one spike would hide the next
        mean = self.memory * mean_square + (1.0 - self.memory) * kept
        return (
            xp.where(known, xp.minimum(1.0, shorter), 1.0),
            xp.where(known, mean, xp.where(usable, grad_square, mean_square)),
        )


def _check_bounds(minimum: float, maximum: float) -> None:
    if not 0.0 < minimum <= maximum < math.inf:
        raise InputError(
            "minimum and maximum must be finite with 0 < minimum <= maximum, got "
            f"{minimum} and {maximum}"
        )


def _chosen(
    condition: Number, then: FactorState, otherwise: FactorState, xp: Arithmetic
) -> FactorState:
    """Return one of two states."""
    return FactorState(*(xp.where(condition, a, b) for a, b in zip(then, otherwise, strict=True)))


def _clipped(x: Number, lowest: float, highest: float, xp: Arithmetic) -> Number:
    """Return the number of a range that is nearest to a given one."""
    return xp.minimum(xp.maximum(x, lowest), highest)


def _cosine(
    inner: Number, grad_square: Number, direction_square: Number, xp: Arithmetic
) -> tuple[Number, Number]:
    """Return the cosine of gradient and direction, and whether there is an angle (else it is 0)."""
    norms = xp.sqrt(grad_square) * xp.sqrt(direction_square)
    known = xp.isfinite(inner) & xp.isfinite(norms) & (norms > 0.0)
    cosine = xp.where(known, inner, 0.0) / xp.where(known, norms, 1.0)
    return _clipped(cosine, -1.0, 1.0, xp), known


@dataclass
class Memory:
    """What :func:`gradscaling_step` must remember from one call to the next.

    Attributes:
        state: the acceleration factor of the last call, and what its rule remembers.
        direction: the gradients of the last call, along which the last step went.
    """

    state: FactorState = field(default_factory=FactorState)
    direction: list[Any] = field(default_factory=list)

    @property
    def factor(self) -> float:
        """The acceleration factor of the last call, damping included."""
        return self.state.factor * self.state.damping


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
        memory.state = (rule or MultiplicativeRule()).follow(memory.state, Signal(inner, *squares))
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
