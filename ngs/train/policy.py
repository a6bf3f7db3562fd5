"""What counts as an anomaly of a training run, what is done about it, and how it is written down.

It rests on the standard library.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ngs.errors import InputError

ACTIONS = {
    "nonfinite": ("warn", "skip", "stop"),
    "loss": ("warn", "skip", "stop"),
    "gradient": ("warn", "clip", "skip", "stop"),
    "weights": ("warn", "roll back", "stop"),
    "data": ("warn", "stop"),
    "start": ("warn", "repair", "stop"),
    "plateau": ("warn", "stop"),
    "dead": ("warn", "stop"),
    "vanishing": ("warn", "stop"),
    "exploding": ("warn", "stop"),
    "update": ("warn", "stop"),
}
"""Every kind of anomaly, and what may be done about it."""


@dataclass(frozen=True)
class Policy:
    """What is done about each kind of anomaly.

    Attributes:
        nonfinite: the loss or a gradient is infinite or NaN.
        loss: the loss of one batch stands out. ``"skip"`` leaves the step out and puts buffers,
            such as the averages of batch normalisation, back.
        gradient: the norm of the gradient stands out. ``"clip"`` scales it to the running median.
        weights: several steps in a row were anomalous, so no single batch is to blame.
            ``"roll back"`` returns to the last good weights and lowers the learning rate.
        data: the same, with weights that were good a moment ago: what changed is the data.
        start: before training, a layer multiplies differences between inputs far more, or far
            less, than the others. ``"repair"`` scales its weights.
        plateau: the loss has stopped falling while it is still high.
        dead: many units of a ReLU are 0 for a whole batch.
        vanishing: the gradient of a layer, relative to its weights, is tiny beside the others'.
        exploding: it is huge beside the others'.
        update: a step changed the weights far more than steps do.

    Raises:
        InputError: an action is none, or makes no sense for that kind.
    """

    nonfinite: str = "skip"
    loss: str = "skip"
    gradient: str = "clip"
    weights: str = "roll back"
    data: str = "stop"
    start: str = "repair"
    plateau: str = "warn"
    dead: str = "warn"
    vanishing: str = "warn"
    exploding: str = "warn"
    update: str = "warn"

    def __post_init__(self) -> None:
        for kind, allowed in ACTIONS.items():
            given = getattr(self, kind)
            if given not in allowed:
                raise InputError(
                    f"the action for {kind} must be one of {', '.join(allowed)}, got {given!r}"
                )


ACT = Policy()
"""Mends what can be mended, and stops where nothing can."""
WATCH = Policy(**{f.name: "warn" for f in fields(Policy)})
"""Reports everything and changes nothing."""
POLICIES = {"watch": WATCH, "act": ACT}
"""Policies by name."""


COUNTS = {
    "window": 2,
    "least": 2,
    "rare": 1,
    "in_a_row": 1,
    "every": 1,
    "quiet_steps": 1,
    "rollbacks": 1,
    "plateau_steps": 1,
}
"""Limits that are counts, and the least that each may be."""


@dataclass(frozen=True)
class Limits:
    """From where on something is an anomaly.

    Attributes:
        z: robust z-score of a spike of the loss, see :class:`ngs.train.anomalies.RunningMedian`.
        z_gradient: the same for the logarithms of gradient norms and of updates, which have longer
            tails.
        window: steps that the scale of a score is taken from.
        least: steps before a spike can be told.
        rare: spikes of single steps in a window above which they are taken for usual: a rare class,
            or another loss every few steps.
        in_a_row: anomalous steps in a row after which it is the weights, or the data.
        every: steps from one look at what is dear (activations, updates, a copy of the weights) to
            the next.
        lower: what the learning rate is multiplied by at a roll-back; it returns to that of the
            last good weights where that is less.
        quiet_steps: steps without a spike after which a lowered learning rate may rise by one such
            factor.
        rollbacks: after that many without a recovery between them the run is stopped.
        dead_share: share of dead units in a layer.
        layer_ratio: ratio of relative gradient norms between a layer and the median layer.
        gain_ratio: ratio of gains at the start between a layer and the median layer.
        plateau_steps: steps in which the loss must fall.

    Raises:
        InputError: one is out of its range.
    """

    z: float = 6.0
    z_gradient: float = 12.0
    window: int = 100
    least: int = 20
    rare: int = 3
    in_a_row: int = 3
    every: int = 25
    lower: float = 0.1
    quiet_steps: int = 50
    rollbacks: int = 20
    dead_share: float = 0.5
    layer_ratio: float = 1e4
    gain_ratio: float = 30.0
    plateau_steps: int = 500

    def __post_init__(self) -> None:
        for name, lowest in COUNTS.items():
            given = getattr(self, name)
            if not isinstance(given, int) or given < lowest:
                raise InputError(f"{name} must be a whole number from {lowest} up, got {given}")
        for name in ("z", "z_gradient", "layer_ratio", "gain_ratio"):
            if not 1.0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be finite and above 1, got {getattr(self, name)}")
        for name in ("lower", "dead_share"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InputError(f"{name} must lie in (0, 1), got {getattr(self, name)}")
        if self.least > self.window:
            raise InputError(
                f"least must be at most the window of {self.window} steps, got {self.least}"
            )


@dataclass
class Event:
    """An anomaly, and what was done about it.

    Attributes:
        kind: a key of :data:`ACTIONS`.
        step: number of the step, from 1; 0 before the first.
        action: what was done.
        text: what was seen, for people.
        value: the number that stood out; ``None`` where it was not finite, or there is none.
        typical: what such numbers were before; ``None`` where that is not known.
        where: name of the layer or parameter; empty where there is none.
        batch: numbers of the inputs of that batch, the suspicious ones first where that is known;
            empty where the loop did not say.
        last: number of the last step of a row of anomalies that this event stands for.
        count: how many they were.
    """

    kind: str
    step: int
    action: str
    text: str
    value: float | None = None
    typical: float | None = None
    where: str = ""
    batch: list[int] = field(default_factory=list)
    last: int = 0
    count: int = 1

    def line(self) -> str:
        """Return the event in a line."""
        steps = f"step {self.step}" if self.count == 1 else f"steps {self.step} to {self.last}"
        said = f"{steps}: {self.text}; {DONE[self.action]}"
        if self.batch:
            first = ", ".join(map(str, self.batch[:5])) + (", ..." if len(self.batch) > 5 else "")
            said += f"; batch of {len(self.batch)}: inputs {first}"
        return said


DONE = {
    "warn": "nothing was done",
    "skip": "the step was left out",
    "clip": "the gradient was clipped",
    "roll back": "went back to the last good weights",
    "repair": "its weights were scaled",
    "stop": "stopped",
}
"""What each action did, for people."""


class StoppedByGuardError(RuntimeError):
    """The guard has ended the run; the message says why and where to look.

    Attributes:
        events: all events of the run.
        record: what :func:`ngs.train.loop.train` would have returned of it; empty elsewhere.
        network: the network there, with the last good weights; ``None`` elsewhere.
    """

    def __init__(self, message: str, events: list[Event]) -> None:
        super().__init__(message, events)
        self.events = events
        self.record: dict[str, Any] = {}
        self.network: Any = None

    def __str__(self) -> str:
        return str(self.args[0])
