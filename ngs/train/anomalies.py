"""What counts as an anomaly, from one number a step: spikes, and a loss that does not fall.

Scalars only; it rests on the standard library.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Any

CONSISTENT = 1.4826 / math.sqrt(2.0)
"""What the median distance of neighbours is multiplied by to estimate a standard deviation.

The difference of two independent normal values has the standard deviation sqrt(2) sigma, and the
median of its absolute value is 1 / 1.4826 of that.
"""


class Window:
    """The last values, in their order of arrival and in that of their size, for a quick median.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self.values: deque[float] = deque()
        self.size = size
        self.ordered: list[float] = []

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        """Take a value in, and forget the oldest where there are too many."""
        self.values.append(value)
        insort(self.ordered, value)
        if len(self.values) > self.size:
            del self.ordered[bisect_left(self.ordered, self.values.popleft())]

    @property
    def median(self) -> float:
        """The median; there must be a value."""
        middle, odd = divmod(len(self.ordered), 2)
        if odd:
            return self.ordered[middle]
        return 0.5 * (self.ordered[middle - 1] + self.ordered[middle])

    def clear(self) -> None:
        """Forget all values."""
        self.values.clear()
        self.ordered.clear()


class RunningMedian:
    """The median of the last values, and how far a new one stands out from it.

    The robust z-score of a value x is ``(x - median) / scale``, with the median of the last
    ``recent`` values and ``scale`` = 1.4826 / sqrt(2) times the median distance between neighbours
    in the window. One outlier moves neither; and a trend, which would widen the distances from a
    median, does not widen those between neighbours (von Neumann et al. 1941 estimate a variance by
    them, Leys et al. 2013 outliers by a median distance). The scale is never taken below ``floor``.

    Args:
        window: how many of the last values the scale is taken from.
        least: how many have to be there before anything stands out, 2 or more.
        recent: how many the median is taken from.
        floor: smallest scale, in the unit of the values.
    """

    def __init__(
        self, window: int = 100, least: int = 20, recent: int = 20, floor: float = 0.0
    ) -> None:
        self.values: deque[float] = deque(maxlen=window)
        self.least, self.floor = least, floor
        self.recent, self.distances = Window(recent), Window(window - 1)

    def add(self, value: float) -> None:
        """Take a value in."""
        if self.values:
            self.distances.add(abs(value - self.values[-1]))
        self.values.append(value)
        self.recent.add(value)

    @property
    def ready(self) -> bool:
        """Whether there are enough values to judge by."""
        return len(self.values) >= self.least

    @property
    def median(self) -> float:
        """The median of the last values; there must be one."""
        return self.recent.median

    def score(self, value: float) -> float:
        """Return the robust z-score of a value that is not in the window yet; 0 before ``least``.

        Infinite values and NaN have the score ``inf``, at any time.
        """
        if not math.isfinite(value):
            return math.inf
        if not self.ready:
            return 0.0
        scale = max(CONSISTENT * self.distances.median, self.floor)
        if scale == 0.0:
            return math.inf if value > self.median else 0.0
        return (value - self.median) / scale

    def clear(self) -> None:
        """Forget all values."""
        self.values.clear()
        self.recent.clear()
        self.distances.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs."""
        return {"values": list(self.values), "floor": self.floor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state_dict` was called."""
        self.clear()
        for value in state["values"]:
            self.add(value)
        self.floor = state["floor"]


class Plateau:
    """Notices a loss whose running median has stopped falling while it is still high.

    Args:
        steps: over how many steps the median is compared.
    """

    FALL = 0.01
    """By what share it has to fall in that time."""
    HIGH = 0.75
    """Share of the first median below which a level loss is nothing to report: a network that has
    learned its task has one too."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.first: float | None = None
        self.since, self.then = 0, math.inf

    def __call__(self, median: float) -> bool:
        """Take the median after one more step in; return whether a plateau has just been found."""
        if self.first is None:
            self.first, self.then = median, median
        self.since += 1
        if self.since < self.steps:
            return False
        high = median > self.first - (1.0 - self.HIGH) * abs(self.first)
        level = high and self.then - median < self.FALL * abs(self.then)
        self.since, self.then = 0, median
        return level

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs."""
        return {"first": self.first, "since": self.since, "then": self.then}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state_dict` was called."""
        self.first, self.since, self.then = state["first"], state["since"], state["then"]
