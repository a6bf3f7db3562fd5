"""Shapes, for step size and momentum alike: constant, straight, cosine, one after another.

They rest on the standard library.
"""

import math
from dataclasses import dataclass

from ngs.errors import InputError
from ngs.schedules.kinds import Schedule, check_steps


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
class Linear:
    """From ``first`` at step 0 in a straight line to ``last`` at step ``steps``, then ``last``.

    Args:
        first: the value at step 0.
        last: the value at step ``steps`` and after it.
        steps: length of the way, 1 or more.

    Raises:
        InputError: ``steps`` is below 1.

    >>> [Linear(0.0, 1.0, steps=4)(t) for t in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    first: float
    last: float
    steps: int

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, t: int) -> float:
        """Return the value at step ``t``."""
        share = min(t / self.steps, 1.0)
        return (1.0 - share) * self.first + share * self.last


@dataclass(frozen=True)
class Cosine:
    """From ``first`` at step 0 along half a cosine to ``last`` at step ``steps``, then ``last``.

    Args:
        first: the value at step 0.
        last: the value at step ``steps`` and after it.
        steps: length of the way, 1 or more.

    Raises:
        InputError: ``steps`` is below 1.

    Source: Loshchilov & Hutter (2017), equation 5, without its restarts.

    >>> [round(Cosine(1.0, 0.0, steps=4)(t), 3) for t in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    first: float
    last: float
    steps: int

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, t: int) -> float:
        """Return the value at step ``t``."""
        if t >= self.steps:
            return self.last
        share = 0.5 * (1.0 - math.cos(math.pi * t / self.steps))
        return (1.0 - share) * self.first + share * self.last


@dataclass(frozen=True)
class Chain:
    """One schedule after another, each counting its own steps from 0.

    Args:
        pieces: ``(schedule, steps)`` pairs in their order; the last one goes on for ever.

    Raises:
        InputError: there is no piece, or one of less than 1 step.

    >>> drop = Chain(((Constant(0.1), 3), (Constant(0.01), 3)))
    >>> [drop(t) for t in range(5)]
    [0.1, 0.1, 0.1, 0.01, 0.01]
    """

    pieces: tuple[tuple[Schedule, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple((s, n) for s, n in self.pieces))
        if not self.pieces:
            raise InputError("pieces must hold at least one (schedule, steps) pair, got none")
        for _, steps in self.pieces:
            check_steps(steps)

    def __call__(self, t: int) -> float:
        """Return the value of the piece that step ``t`` falls into."""
        for schedule, steps in self.pieces[:-1]:
            if t < steps:
                return schedule(t)
            t -= steps
        return self.pieces[-1][0](t)


@dataclass(frozen=True)
class Product:
    """The product of two schedules: a warm-up times a decay, a schedule times its peak.

    >>> [Product(Linear(0.0, 1.0, steps=2), Constant(0.1))(t) for t in range(3)]
    [0.0, 0.05, 0.1]
    """

    first: Schedule
    second: Schedule

    def __call__(self, t: int) -> float:
        """Return the product of both values at step ``t``."""
        return self.first(t) * self.second(t)


@dataclass(frozen=True)
class Capped:
    """The smaller of a schedule and a number.

    >>> [Capped(Linear(0.0, 1.0, steps=4), 0.5)(t) for t in range(4)]
    [0.0, 0.25, 0.5, 0.5]
    """

    schedule: Schedule
    maximum: float

    def __call__(self, t: int) -> float:
        """Return the value at step ``t``, at most ``maximum``."""
        return min(self.schedule(t), self.maximum)


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


@dataclass(frozen=True)
class OneCycle:
    r"""From ``first`` to ``middle`` and on to ``last``, along half a cosine each way.

    The sequence that ``torch.optim.lr_scheduler.OneCycleLR`` writes for the learning rate (with
    ``first=max_lr / 25, middle=max_lr, last=max_lr / 250_000``) and for the momentum (with
    ``first=0.95, middle=0.85, last=0.95``). Given as a callable it reaches the optimizer in time.

    Args:
        first: the value at step 0.
        middle: the value at the end of the first phase, ``rise`` of the way.
        last: the value at step ``total - 1`` and after it.
        total: number of steps, 2 or more.
        rise: share of the first phase; ``rise * total`` must lie above 1 and below ``total``.

    Raises:
        InputError: ``total`` or ``rise`` is out of range.

    Source: Smith & Topin (2018), in torch's two-phase form.

    >>> [round(OneCycle(0.95, 0.85, 0.95, total=11, rise=6 / 11)(t), 3) for t in (0, 5, 10, 11)]
    [0.95, 0.85, 0.95, 0.95]
    """

    first: float
    middle: float
    last: float
    total: int
    rise: float = 0.3

    def __post_init__(self) -> None:
        if self.total < 2:
            raise InputError(f"total must be 2 steps or more, got {self.total}")
        if not 1.0 < self.rise * self.total < self.total:
            raise InputError(
                f"rise must lie above 1/total = {1.0 / self.total:.3g} and below 1, got {self.rise}"
            )

    def __call__(self, t: int) -> float:
        """Return the value at step ``t``."""
        turn, end = self.rise * self.total - 1.0, self.total - 1.0
        if t <= turn:
            start, stop, share = self.first, self.middle, t / turn
        else:
            start, stop, share = self.middle, self.last, min((t - turn) / (end - turn), 1.0)
        return stop + 0.5 * (start - stop) * (1.0 + math.cos(math.pi * share))
