"""Write the golden trajectories: what NGS computes, on small problems, under schedules and options.

``python tools/make_golden.py`` writes ``tests/golden.json``. They are made in float64 with
``ngs.methods`` and ``ngs.factor`` alone, in the look-ahead form that keeps the iterate, which none
of the optimizers stores; tests/test_golden.py holds every framework against them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ngs import methods
from ngs.conversions import lookahead_from_stored
from ngs.factor import AngleRule, FactorState, MultiplicativeRule, Signal
from ngs.methods import State, StoredState
from ngs.restart import GradientRestart, Memory
from ngs.schedules import Constant, OneCycle, Schedule, SimplifiedMomentum

GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden.json"
STEPS = 40
KEPT = (1, 2, 3, 5, 10, 20, 30, 40)
"""After how many steps the stored point is written down."""
Arrays = list[Any]
DRAWS = np.random.default_rng(0)
POINTS = DRAWS.normal(size=(12, 3))
SIDES = np.where(DRAWS.normal(size=12) > 0.0, 1.0, 0.0)


class Problem(NamedTuple):
    """A function of several arrays, by its gradient.

    Attributes:
        start: the arrays at the start.
        gradient: ``(arrays, xp) -> arrays``, with NumPy's or another's functions.
        lr: a learning rate that fits.
    """

    start: list[Any]
    gradient: Callable[[Arrays, Any], Arrays]
    lr: float


def bowl(parts: Arrays, xp: Any) -> Arrays:
    """Return the gradient of a quadratic with the condition number 100."""
    return [xp.asarray([1.0, 0.01]) * parts[0], xp.asarray([[0.1, 0.5]]) * parts[1]]


def waves(parts: Arrays, xp: Any) -> Arrays:
    """Return the gradient of a bowl with waves in it, which is not convex."""
    return [xp.sin(part) + 0.1 * part for part in parts]


def classes(parts: Arrays, xp: Any) -> Arrays:
    """Return the gradient of a logistic regression."""
    weights, bias = parts
    points = xp.asarray(POINTS)
    slope = (1.0 / (1.0 + xp.exp(-(points @ weights + bias))) - xp.asarray(SIDES)) / len(SIDES)
    return [points.T @ slope, xp.sum(slope, keepdims=True)]


PROBLEMS = {
    "bowl": Problem([[1.0, 1.0], [[-2.0, 3.0]]], bowl, 0.5),
    "waves": Problem([2.5, [-4.0, 2.0]], waves, 0.2),
    "classes": Problem([[0.5, -0.5, 1.0], [0.0]], classes, 1.0),
}
SCHEDULES: dict[str, tuple[Schedule, Schedule]] = {
    "constant": (Constant(1.0), Constant(0.9)),
    "drops": (lambda t: 1.0 if t < 12 else 0.3 if t < 25 else 0.03, Constant(0.9)),
    "pause": (lambda t: 0.0 if 10 <= t < 13 else 1.0, SimplifiedMomentum()),
    "cycle": (OneCycle(0.2, 1.0, 0.01, STEPS), OneCycle(0.95, 0.85, 0.95, STEPS)),
    "growing": (Constant(1.0), SimplifiedMomentum()),
    "warm-up": (lambda t: min(t / 8, 1.0), Constant(0.8)),
}
"""Learning rate, in units of the problem's, and momentum."""
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "coupled decay": {"weight_decay": 0.05},
    "decoupled decay": {"weight_decay": 0.05, "decoupled_weight_decay": True},
    "rescaled": {"rescale_velocity": True},
    "clipped": {"max_norm": 0.2},
    "angle": {"factor": AngleRule()},
    "multiplicative": {"factor": MultiplicativeRule(gain=0.05, maximum=1.5)},
    "restart": {"restart": GradientRestart(average=0.0, wait=1)},
    "clipped, restart": {"max_norm": 0.2, "restart": GradientRestart(average=0.0, wait=1)},
    "all": {
        "weight_decay": 0.05,
        "rescale_velocity": True,
        "max_norm": 0.2,
        "factor": AngleRule(gain=0.1, start=0.5),
        "restart": GradientRestart(average=0.5, wait=2),
    },
}


def course(
    problem: Problem,
    rate: Schedule,
    momentum: Schedule,
    *,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    rescale_velocity: bool = False,
    max_norm: float | None = None,
    factor: Any = None,
    restart: GradientRestart | None = None,
) -> list[Arrays]:
    """Return the stored points of a run, the start included."""
    shapes = [np.shape(part) for part in problem.start]
    state = methods.nesterov.start(join(problem.start))
    steered, seen, clock, last, points = FactorState(), Memory(), 0, 0.0, [problem.start]
    for t in range(STEPS):
        beta, lr = momentum(clock), problem.lr * rate(t)
        stored = methods.nesterov.gradient_point(state, beta)
        grad = join(problem.gradient(split(stored, shapes), np))
        if factor is not None:
            velocity = state.velocity
            signal = Signal(-grad @ velocity, grad @ grad, velocity @ velocity, lr)
            steered = factor.follow(steered, signal)
        eta = lr * steered.factor * steered.damping
        if rescale_velocity and last > 0.0 < eta:  # at the same stored point
            resized = StoredState(stored, eta / last * state.velocity)
            state = lookahead_from_stored(resized, beta)
        norm = np.sqrt(grad @ grad)
        clip = max_norm / norm if max_norm is not None and norm > max_norm else 1.0
        coupled = 0.0 if decoupled_weight_decay else weight_decay
        uncoupled = weight_decay - coupled
        velocity = beta * state.velocity - clip * eta * grad
        now = False
        if restart is not None:
            seen, now = restart(seen, grad @ velocity, grad @ grad, velocity @ velocity)
        if rescale_velocity and eta == 0.0:  # the rules see such a step; nothing moves
            points.append(points[-1])
            continue
        state = methods.nesterov.step(state, clip * grad + coupled * stored, eta, beta)
        if now:  # the gradient step alone
            theta = stored - eta * (clip * grad + coupled * stored)
            state = State(theta, 0.0 * theta)
        state = State(state.theta - uncoupled * eta * stored, state.velocity)
        clock, last = (0 if now else clock + 1), eta
        following = 0.0 if now else momentum(clock)
        point = methods.nesterov.gradient_point(state, following)
        points.append([part.tolist() for part in split(point, shapes)])
    return points


def join(parts: Sequence[Any]) -> np.ndarray:
    """Return the entries of all arrays as one vector."""
    return np.concatenate([np.ravel(np.asarray(part, dtype=float)) for part in parts])


def split(vector: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Arrays:
    """Return the arrays of a vector."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [x.reshape(s) for x, s in zip(np.split(vector, ends), shapes, strict=True)]


def trajectories() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the points that are kept, by problem, schedule and options."""
    return {
        name: {
            schedule: {
                option: [course(problem, *SCHEDULES[schedule], **chosen)[t] for t in KEPT]
                for option, chosen in OPTIONS.items()
            }
            for schedule in SCHEDULES
        }
        for name, problem in PROBLEMS.items()
    }


def main() -> None:
    """Write the file."""
    text = json.dumps(trajectories(), separators=(",", ":"))
    text = text.replace('],"', '],\n"')  # a line for each set of options
    GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
