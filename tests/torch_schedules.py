"""Schedules that the tests of NGS run through: every kind of change, and every kind of zero."""

import numpy as np
from torch_oracle import Setting

STEPS = 300
SHORT = 120  # holds every kind of zero, and keeps the tests quick


def columns(lr, momentum):
    """Rows of (lrs, momenta) with the same schedule for both groups, where there are two."""
    lr, momentum = (np.broadcast_to(x, STEPS) for x in (lr, momentum))
    return [((a, a), (b, b)) for a, b in zip(lr.tolist(), momentum.tolist(), strict=True)]


def with_zeros(values, where):
    values = np.array(values)
    values[where] = 0.0
    return values


rng = np.random.default_rng(42)
LR = 10.0 ** rng.uniform(-3.0, -0.3, STEPS)
MOMENTUM = rng.uniform(0.05, 0.95, STEPS)
SCATTERED = rng.random(STEPS) < 0.25
SCHEDULES = {
    "constant": columns(0.3, 0.9),
    "lr schedule": columns(LR, 0.9),
    "momentum schedule": columns(0.3, MOMENTUM),
    "both": columns(LR, MOMENTUM),
    "lr drops a thousandfold": columns(np.where(np.arange(STEPS) < 60, 0.3, 3e-4), 0.9),
    "momentum 0 throughout": columns(LR, 0.0),
    "lr 0 at the first step": columns(with_zeros(LR, [0]), MOMENTUM),
    "lr 0 for the first ten steps": columns(with_zeros(LR, slice(10)), MOMENTUM),
    "lr 0 in mid-course": columns(with_zeros(LR, [50, 51, 52, 100]), MOMENTUM),
    "lr 0 at the last steps": columns(with_zeros(LR, slice(100, None)), MOMENTUM),
    "momentum 0 at the first step": columns(LR, with_zeros(MOMENTUM, [0])),
    "momentum 0 in mid-course": columns(LR, with_zeros(MOMENTUM, [50, 51, 52, 100])),
    "lr and momentum 0 together": columns(*(with_zeros(x, [0, 60, 61]) for x in (LR, MOMENTUM))),
    "zeros scattered": columns(
        with_zeros(LR, SCATTERED), with_zeros(MOMENTUM, rng.random(STEPS) < 0.25)
    ),
}
PRESENCE = (rng.random((STEPS, 3)) < 0.6).tolist()
TWO_GROUPS = Setting(groups=((0, 2), (1,)))
EACH_ITS_OWN = [
    ((a[0][0], b[0][0]), (a[1][0], b[1][0]))
    for a, b in zip(SCHEDULES["both"], SCHEDULES["zeros scattered"], strict=True)
]
