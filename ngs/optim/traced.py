"""One step of NGS where a framework traces code: the scalars of the whole model, then each array.

What the torch optimizer decides with floats is decided here with arrays, by the same rules, so
that a compiled step needs no ``if``. It rests on the methods, the rules and their arithmetic.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ngs.arithmetic import Arithmetic, Number
from ngs.errors import InputError
from ngs.factor import AdditiveRule, FactorState, Rule, Signal
from ngs.methods import StoredState, stored_step
from ngs.restart import GradientRestart
from ngs.restart import Memory as RestartMemory

Array = Any


@dataclass(frozen=True)
class Settings:
    """What holds for all steps; :class:`ngs.optim.torch.NGS` describes each.

    Raises:
        InputError: one is out of its range, or the rule of the factor is
            :class:`~ngs.factor.AdditiveRule`.
    """

    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    rescale_velocity: bool = False
    factor: Rule | None = None
    restart: GradientRestart | None = None
    max_norm: float | None = None
    check_finite: bool | None = None

    def __post_init__(self) -> None:
        decay, longest = self.weight_decay, self.max_norm
        if isinstance(decay, int | float) and not 0.0 <= decay < math.inf:
            raise InputError(f"weight_decay must be finite and at least 0, got {decay}")
        if isinstance(longest, int | float) and not 0.0 < longest < math.inf:
            raise InputError(f"max_norm must be finite and above 0, got {longest}")
        if isinstance(self.factor, AdditiveRule):
            raise InputError(
                "AdditiveRule may turn the learning rate negative, which a compiled step cannot "
                "refuse: take AngleRule or MultiplicativeRule, or NGS for torch"
            )

    @property
    def decays(self) -> bool:
        """Whether there may be weight decay; of a traced number nobody knows."""
        return not (isinstance(self.weight_decay, int | float) and self.weight_decay == 0.0)

    @property
    def reads(self) -> bool:
        """Whether a step needs the inner products of gradient and velocity."""
        wanted = (self.factor, self.restart, self.max_norm)
        return any(one is not None for one in wanted) or self.check_finite is True


class Memory(NamedTuple):
    r"""What the scalars of a step need to know of the last; all start at 0, the factor at 1.

    Attributes:
        clock: steps since the start, or since the last restart: t of a momentum schedule.
        momentum: :math:`\beta_t`, with which the stored point was formed.
        lr: learning rate of the last step, factor included.
        factor: the acceleration factor, and what its rule remembers.
        restart: what the rule of the restart remembers.
        refused: steps that were refused because the gradient was not finite.
    """

    clock: Number = 0
    momentum: Number = 0.0
    lr: Number = 0.0
    factor: FactorState = FactorState()
    restart: RestartMemory = RestartMemory()
    refused: Number = 0


class Products(NamedTuple):
    r"""Inner products over all parameters.

    Attributes:
        inner: :math:`\langle g_t, v_t\rangle`.
        grad_square: :math:`\lVert g_t\rVert^2`.
        velocity_square: :math:`\lVert v_t\rVert^2`.
    """

    inner: Number
    grad_square: Number
    velocity_square: Number


class Scalars(NamedTuple):
    r"""What a step does to every parameter alike; a condition that cannot occur is ``False``.

    Attributes:
        rate: :math:`\eta_t`, factor included.
        clip: what the gradients are multiplied by.
        ratio: what the velocities are multiplied by before the step.
        momentum: :math:`\beta_t`.
        next_momentum: :math:`\beta_{t+1}`.
        restart: whether the velocity is thrown away.
        still: whether nothing moves at all.
    """

    rate: Number
    clip: Number
    ratio: Number
    momentum: Number
    next_momentum: Number
    restart: Number
    still: Number


def decide(
    settings: Settings,
    memory: Memory,
    products: Products | None,
    lr: Number,
    next_momentum: Number,
    xp: Arithmetic,
) -> tuple[Memory, Scalars]:
    r"""Return what to remember, and the scalars of this step.

    Args:
        settings: of the optimizer.
        memory: what the last call returned.
        products: of this step; ``None`` where the settings ask for none.
        lr: the learning rate that the schedule has at this step.
        next_momentum: :math:`\beta_{t+1}`.
        xp: what to compute with.
    """
    factor, again = memory.factor, memory.restart
    refused: Number = False
    if products is not None and settings.check_finite is not False:
        refused = ~xp.isfinite(products.grad_square)
    if products is not None and settings.factor is not None:
        inner, grad_square, velocity_square = products
        signal = Signal(-inner, grad_square, velocity_square, lr)
        factor = settings.factor.follow(factor, signal, xp)
    rate, momentum = lr * factor.factor * factor.damping, memory.momentum
    still, ratio = False, 1.0
    if settings.rescale_velocity:
        both = (rate != 0.0) & (memory.lr != 0.0)
        ratio = xp.where(both, rate / xp.where(both, memory.lr, 1.0), 1.0)
        still = rate == 0.0
    clip, now = 1.0, False
    if products is not None:
        inner, velocity_square = ratio * products.inner, ratio**2 * products.velocity_square
        grad_square = products.grad_square
        if settings.max_norm is not None:
            norm = xp.sqrt(grad_square)
            shorter = settings.max_norm / xp.maximum(norm, settings.max_norm)
            clip = xp.where(xp.isfinite(norm), shorter, 1.0)
        if settings.restart is not None:
            eta = clip * rate
            along = momentum * inner - eta * grad_square
            square = momentum**2 * velocity_square - 2.0 * momentum * eta * inner
            square = square + eta**2 * grad_square
            again, now = settings.restart(again, along, grad_square, square, xp)
            momentum, next_momentum = choose(now, (0.0, 0.0), (momentum, next_momentum), xp)
    clock = choose(now, 0, memory.clock + 1, xp)
    after = Memory(clock, next_momentum, rate, factor, again, memory.refused)
    # With a rate of 0 and rescaled velocities, clocks and velocities stand still.
    after = choose(still, memory._replace(factor=factor, restart=again), after, xp)
    after = choose(refused, memory._replace(refused=memory.refused + 1), after, xp)
    still = refused if still is False else still | refused
    return after, Scalars(rate, clip, ratio, momentum, next_momentum, now, still)


def choose(condition: Number, then: Any, otherwise: Any, xp: Arithmetic) -> Any:
    """Return one of two numbers or tuples of them; a condition that is ``False`` costs nothing."""
    if condition is False:
        return otherwise
    if isinstance(then, tuple):
        chosen = [choose(condition, a, b, xp) for a, b in zip(then, otherwise, strict=True)]
        return type(then)(*chosen) if hasattr(then, "_fields") else tuple(chosen)
    return xp.where(condition, then, otherwise)


def advance(
    settings: Settings, scalars: Scalars, stored: Array, grad: Array, velocity: Array, xp: Any
) -> tuple[Array, Array]:
    r"""Return the displacement of a stored point, :math:`y_{t+1} - y_t`, and :math:`v_{t+1}`.

    Args:
        settings: of the optimizer.
        scalars: of this step.
        stored: :math:`y_t`; not read without weight decay.
        grad: :math:`g_t`.
        velocity: :math:`v_t`.
        xp: what to compute with.
    """
    gradient, old = scalars.clip * grad, scalars.ratio * velocity
    if settings.decays and not settings.decoupled_weight_decay:
        gradient = gradient + settings.weight_decay * stored
    # The step does not depend on where it starts: from 0, the new point is the displacement.
    after = stored_step(
        StoredState(0 * old, old), gradient, scalars.rate, scalars.momentum, scalars.next_momentum
    )
    moved = after.lookahead
    if settings.decays and settings.decoupled_weight_decay:
        moved = moved - settings.weight_decay * scalars.rate * stored
    kept = choose(scalars.restart, 0.0, after.velocity, xp)
    return choose(scalars.still, 0.0, moved, xp), choose(scalars.still, velocity, kept, xp)
