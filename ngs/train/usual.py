"""What is usual in a guarded run, and what stands out from it: losses, gradient norms, updates.

It rests on the detectors and the limits beside it.
"""

import math
from typing import Any

from ngs.train.anomalies import Plateau, RunningMedian
from ngs.train.policy import Limits

FLOOR = 0.05
"""Smallest scale of the loss's z-score, as a share of the loss: of the geometric mean of its median
at the beginning and its present one."""
FIRST = 5
"""How many losses the median at the beginning is taken from."""
FLOOR_OF_LOGARITHM = 0.15
"""Smallest scale of the z-scores of norms: a spike is some six times what is usual, or more."""
LIKE = 2.0
"""Up to so many times the median at the beginning, spikes can be those of a kind of batch that is
rare and not learned yet. Broken ones know no such bound."""
LEAST_UPDATES = 8
"""Updates that are looked at before one can stand out."""


class Usual:
    """Learns from every step that is taken, and judges the next by it.

    Args:
        limits: from where on something stands out.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.losses = RunningMedian(limits.window, limits.least)
        self.first: float | None = None
        self.log_norms = RunningMedian(limits.window, limits.least, floor=FLOOR_OF_LOGARITHM)
        self.log_updates = RunningMedian(limits.window, LEAST_UPDATES, floor=FLOOR_OF_LOGARITHM)
        self.plateau = Plateau(math.ceil(limits.plateau_steps / limits.every))

    def learn(self, loss: float, norm: float) -> None:
        """Take loss and gradient norm of a step that was taken into what is usual."""
        if math.isfinite(loss):
            self.losses.add(loss)
            median = abs(self.losses.median)
            if self.first is None and len(self.losses.values) == FIRST:
                self.first = median
            self.losses.floor = FLOOR * math.sqrt((self.first or 0.0) * median)
        self.learn_norm(norm)

    def learn_norm(self, norm: float) -> None:
        """Take a gradient norm in."""
        if 0.0 < norm < math.inf:
            self.log_norms.add(math.log(norm))

    def forget(self) -> None:
        """Begin anew, for other data."""
        self.losses.clear()
        self.log_norms.clear()
        self.first = None

    def is_spike(self, loss: float) -> bool:
        """Return whether a loss stands out."""
        return self.losses.score(loss) > self.limits.z

    def may_be_rare(self, loss: float) -> bool:
        """Return whether a loss that stands out is one that an unlearned kind of batch may have."""
        return self.first is not None and loss < LIKE * self.first

    def norm_stands_out(self, norm: float) -> bool:
        """Return whether a gradient is far longer than usual."""
        return norm > 0.0 and self.log_norms.score(math.log(norm)) > self.limits.z_gradient

    @property
    def norm(self) -> float:
        """The usual norm of the gradient."""
        return math.exp(self.log_norms.median)

    def update_stands_out(self, share: float) -> float | None:
        """Take a change of the weights in; return the usual one if this is far larger.

        Args:
            share: norm of the change over that of the weights, finite and above 0.
        """
        usual = None
        if self.log_updates.score(math.log(share)) > self.limits.z_gradient:
            usual = math.exp(self.log_updates.median)
        self.log_updates.add(math.log(share))
        return usual

    def is_level(self) -> bool:
        """Return whether the loss has stopped falling while it is high; for every closer look."""
        return self.losses.ready and self.plateau(self.losses.median)

    def at_the_copy(self) -> dict[str, Any]:
        """Return what goes back with the weights, for :meth:`go_back`."""
        return {
            "losses": self.losses.state_dict(),
            "first": self.first,
            "log_norms": self.log_norms.state_dict(),
            "plateau": self.plateau.state_dict(),
        }

    def go_back(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`at_the_copy` was called."""
        self.losses.load_state_dict(state["losses"])
        self.first = state["first"]
        self.log_norms.load_state_dict(state["log_norms"])
        self.plateau.load_state_dict(state["plateau"])

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs."""
        return {**self.at_the_copy(), "log_updates": self.log_updates.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state_dict` was called."""
        self.go_back(state)
        self.log_updates.load_state_dict(state["log_updates"])
