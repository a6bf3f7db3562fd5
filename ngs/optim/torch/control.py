"""What the signals of a step decide: clipping, the acceleration factor, a restart. Scalars only.

It rests on :mod:`ngs.factor`, :mod:`ngs.restart` and the signals beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ngs.errors import InputError
from ngs.factor import FactorState, Rule, Signal
from ngs.optim.torch.signals import Signals
from ngs.restart import GradientRestart, Memory

Group = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What holds for all groups alike; :class:`ngs.optim.torch.NGS` describes each."""

    factor: Rule | None = None
    factor_every: int = 1
    factor_eager: int = 100
    factor_scope: str = "group"
    restart: GradientRestart | None = None
    max_norm: float | None = None
    check_finite: bool | None = None

    def __post_init__(self) -> None:
        if self.factor_every < 1:
            raise InputError(f"factor_every must be 1 step or more, got {self.factor_every}")
        if self.factor_eager < 0:
            raise InputError(f"factor_eager must be 0 steps or more, got {self.factor_eager}")
        if self.factor_scope not in ("group", "all"):
            raise InputError(f"factor_scope must be 'group' or 'all', got {self.factor_scope!r}")
        if self.max_norm is not None and not 0.0 < self.max_norm < math.inf:
            raise InputError(f"max_norm must be finite and above 0, got {self.max_norm}")


@dataclass(slots=True)
class Entry:
    r"""One parameter that takes part in a step.

    Attributes:
        param: :math:`y_t`.
        part: what this process holds of it: the parameter itself, unless it is a DTensor.
        grad: :math:`g_t`, the same part of it.
        group: number of its group.
        index: its place in the group.
        scale: :math:`s_{t-1}`.
        momentum: :math:`\beta_t`.
        next_momentum: :math:`\beta_{t+1}`.
    """

    param: torch.Tensor
    part: torch.Tensor
    grad: torch.Tensor
    group: int
    index: int
    scale: float
    momentum: float
    next_momentum: float


def clipping(max_norm: float | None, norm: float | None) -> float:
    """Return what the gradients are to be multiplied by so that their norm is at most the limit."""
    if max_norm is None or norm is None or not max_norm < norm < math.inf:
        return 1.0
    return max_norm / norm


def next_factors(
    options: Options, groups: Sequence[Group], entries: Sequence[Entry], signals: Signals
) -> tuple[list[FactorState], tuple[float | None, ...]]:
    r"""Return the next state of each group's factor, and the cosine that it followed.

    The direction travelled is the velocity :math:`v_t`, so the rule is handed
    :math:`\langle g_t, -v_t\rangle` and the squared norms of both.
    """
    together = options.factor_scope == "all"
    sums = [[0.0, 0.0, 0.0] for _ in groups]
    columns = (signals.inner, signals.grad_square, signals.velocity_square)
    for entry, *numbers in zip(entries, *columns, strict=True):
        place = 0 if together else entry.group
        sums[place] = [a + b for a, b in zip(sums[place], numbers, strict=True)]
    found, cosines = [], []
    for number, group in enumerate(groups):
        inner, grad_square, velocity_square = sums[0 if together else number]
        state = FactorState(*group["factor_state"])
        if options.factor is not None:
            lr = max(float(g["lr"]) for g in (groups if together else [group]))
            signal = Signal(-inner, grad_square, velocity_square, lr)
            state = options.factor.follow(state, signal)
        if not 0.0 <= state.factor * state.damping < math.inf:
            raise InputError(
                f"the rule {options.factor} gave the factor {state.factor * state.damping}: it "
                "must stay finite and at least 0; AngleRule and MultiplicativeRule do"
            )
        found.append(state)
        cosines.append(cosine(-inner, grad_square, velocity_square))
    return found, tuple(cosines)


def wants_restart(
    rule: GradientRestart,
    memory: Memory,
    entries: Sequence[Entry],
    signals: Signals,
    lrs: Sequence[float],
) -> tuple[Memory, bool]:
    r"""Ask the rule, with :math:`v_{t+1} = \beta_t v_t - \eta_t g_t` over all parameters.

    Args:
        rule: see :class:`ngs.restart.GradientRestart`.
        memory: what it remembers.
        entries: the parameters.
        signals: their inner products.
        lrs: :math:`\eta_t` of each group, clipping included.
    """
    inner = velocity_square = 0.0
    columns = (signals.inner, signals.grad_square, signals.velocity_square)
    for entry, along, grad_square, square in zip(entries, *columns, strict=True):
        lr, momentum = lrs[entry.group], entry.momentum
        inner += momentum * along - lr * grad_square
        velocity_square += momentum**2 * square - 2.0 * momentum * lr * along + lr**2 * grad_square
    return rule(memory, inner, sum(signals.grad_square), velocity_square)


def cosine(inner: float, first_square: float, second_square: float) -> float | None:
    """Return the cosine of an angle, or ``None`` where there is none."""
    norms = math.sqrt(first_square) * math.sqrt(second_square)
    if not (0.0 < norms < math.inf and math.isfinite(inner)):
        return None
    return min(max(inner / norms, -1.0), 1.0)
