r"""Restart by the gradient condition, in scalars alone, for exact gradients and for noisy ones.

After the step the velocity is :math:`v_{t+1} = \beta_t v_t - \eta_t g_t`. If
:math:`\langle g_t, v_{t+1}\rangle > 0` the momentum carries the iterate uphill, and it is better to
throw the velocity away. It rests on :mod:`ngs.arithmetic`.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ngs.arithmetic import FLOATS, Arithmetic, Number
from ngs.errors import InputError


class Memory(NamedTuple):
    """What the rule remembers since the last restart.

    Attributes:
        average: running average of the cosine, not yet divided by the weights seen so far.
        steps: how many cosines went into it.
    """

    average: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class GradientRestart:
    r"""Restart when the cosine of :math:`g_t` and :math:`v_{t+1}` is above 0 in the running mean.

    .. math:: r_t = \frac{\langle g_t, v_{t+1}\rangle}{\lVert g_t\rVert\,\lVert v_{t+1}\rVert},
              \qquad a_t = \rho\,a_{t-1} + (1-\rho)\,r_t

    With ``average`` 0 and ``wait`` 1 it is the gradient scheme of its source, for exact gradients.
    The gradient of a mini-batch points uphill by chance now and then; the average waits until it
    does so persistently, and ``wait`` keeps two restarts apart. What an average cannot remove is
    the bias: the noise in :math:`g_t` is in :math:`v_{t+1}` as well, with the other sign, and makes
    the rule reluctant. Where noise dominates it hardly ever fires; chapter 7 measures it.

    Args:
        average: :math:`\rho` in [0, 1).
        wait: the fewest steps from one restart to the next, 1 or more.

    Raises:
        InputError: a parameter is out of range.

    Source: O'Donoghue & Candès (2015), section 3.2; the average is ours.

    >>> rule = GradientRestart(average=0.0, wait=1)
    >>> rule(Memory(), inner=-1.0, grad_square=1.0, velocity_square=4.0)
    (Memory(average=-0.5, steps=1), False)
    >>> rule(Memory(), inner=1.0, grad_square=1.0, velocity_square=4.0)
    (Memory(average=0.0, steps=0), True)
    """

    average: float = 0.9
    wait: int = 10

    def __post_init__(self) -> None:
        if not 0.0 <= self.average < 1.0:
            raise InputError(f"average must lie in [0, 1), got {self.average}")
        if self.wait < 1:
            raise InputError(f"wait must be 1 step or more, got {self.wait}")

    def __call__(
        self,
        memory: Memory,
        inner: Number,
        grad_square: Number,
        velocity_square: Number,
        xp: Arithmetic = FLOATS,
    ) -> tuple[Memory, Number]:
        r"""Return what to remember, and whether to restart after this step.

        Args:
            memory: what the last call returned; ``Memory()`` at first.
            inner: :math:`\langle g_t, v_{t+1}\rangle`.
            grad_square: :math:`\lVert g_t\rVert^2`.
            velocity_square: :math:`\lVert v_{t+1}\rVert^2`.
            xp: what to compute with.
        """
        norms = xp.sqrt(xp.maximum(grad_square, 0.0)) * xp.sqrt(xp.maximum(velocity_square, 0.0))
        ratio = inner / xp.where(norms > 0.0, norms, 1.0)
        cosine = xp.where((norms > 0.0) & xp.isfinite(ratio), ratio, 0.0)
        average = self.average * memory.average + (1.0 - self.average) * cosine
        steps = memory.steps + 1
        now = (average > 0.0) & (steps >= self.wait)
        return Memory(xp.where(now, 0.0, average), xp.where(now, 0, steps)), now
