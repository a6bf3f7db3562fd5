"""Checks that every method must pass: test_methods runs them, test_mutants shows they can fail.

They run the methods on fractions, so every comparison is exact; each raises AssertionError.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from ngs.methods import Method, State, start

COEFFICIENTS = [
    (Fraction(1, 3), Fraction(1, 2)),
    (Fraction(1, 5), Fraction(2, 3)),
    (Fraction(1, 2), Fraction(1, 7)),
    (Fraction(1, 4), Fraction(4, 5)),
]
"""(lr, momentum) of four steps, no two alike, so that a coefficient of the wrong step shows."""

THETA = Fraction(7, 3)

HAND_COMPUTED = {
    "gradient_descent": [1, Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)],
    "heavy_ball": [1, Fraction(1, 2), 0, Fraction(-1, 4)],
    "nesterov": [1, Fraction(1, 2), Fraction(1, 8), Fraction(-1, 32)],
}
"""Iterates on f = theta^2/2 from 1 with lr = momentum = 1/2, worked out on paper."""


def slope(theta: Any) -> Any:
    """Gradient of theta^2 - theta, whose minimiser is not the origin."""
    return 2 * theta - 1


def run(
    method: Method,
    theta: Any,
    grad: Callable[[Any], Any],
    coefficients: Iterable[tuple[Any, Any]],
) -> tuple[list[State], list[Any]]:
    """Return the states before and after every step, and the points the gradients were taken at."""
    states, points = [start(theta)], []
    for lr, momentum in coefficients:
        points.append(method.gradient_point(states[-1], momentum))
        states.append(method.step(states[-1], grad(points[-1]), lr, momentum))
    return states, points


def expected_gradient_point(name: str, now: Any, before: Any, momentum: Any) -> Any:
    """Where the gradient belongs, from the last two iterates alone."""
    if name == "nesterov":
        return now + momentum * (now - before)
    return now


def two_point_form(
    name: str, theta: Any, grad: Callable[[Any], Any], coefficients: Iterable[tuple[Any, Any]]
) -> list[Any]:
    """Return the iterates of the textbook recursion over iterates, which has no velocity."""
    before = now = theta
    iterates = [theta]
    for lr, momentum in coefficients:
        step = -lr * grad(expected_gradient_point(name, now, before, momentum))
        if name != "gradient_descent":
            step = step + momentum * (now - before)
        before, now = now, now + step
        iterates.append(now)
    return iterates


def iterates_are_those_of_the_two_point_form(method: Method) -> None:
    states, _ = run(method, THETA, slope, COEFFICIENTS)
    expected = two_point_form(method.name, THETA, slope, COEFFICIENTS)
    assert [s.theta for s in states] == expected


def gradient_is_taken_where_the_method_says(method: Method) -> None:
    states, points = run(method, THETA, slope, COEFFICIENTS)
    iterates = [states[0].theta, *(s.theta for s in states)]  # theta_{-1} = theta_0: at rest
    for t, (_, momentum) in enumerate(COEFFICIENTS):
        before, now = iterates[t], iterates[t + 1]
        assert points[t] == expected_gradient_point(method.name, now, before, momentum)


def hand_computed_trajectory_is_met(method: Method) -> None:
    states, _ = run(
        method, Fraction(1), lambda theta: theta, [(Fraction(1, 2), Fraction(1, 2))] * 3
    )
    assert [s.theta for s in states] == HAND_COMPUTED[method.name]


def zero_momentum_is_gradient_descent(method: Method) -> None:
    states, _ = run(method, THETA, slope, [(lr, Fraction(0)) for lr, _ in COEFFICIENTS])
    theta = THETA
    for (lr, _), state in zip(COEFFICIENTS, states[1:], strict=True):
        theta = theta - lr * slope(theta)
        assert state.theta == theta


def velocity_is_the_last_displacement(method: Method) -> None:
    states, _ = run(method, THETA, slope, COEFFICIENTS)
    assert states[0].velocity == 0
    for old, new in pairwise(states):
        assert new.velocity == new.theta - old.theta


def inputs_stay_as_they_are(method: Method) -> None:
    state = State(np.array([1.0, -2.0]), np.array([0.5, 3.0]))
    grad = np.array([4.0, 0.25])
    copies = [x.copy() for x in (*state, grad)]
    method.gradient_point(state, 0.5)
    method.step(state, grad, 0.25, 0.5)
    for given, copy in zip((*state, grad), copies, strict=True):
        np.testing.assert_array_equal(given, copy)


CHECKS = (
    iterates_are_those_of_the_two_point_form,
    gradient_is_taken_where_the_method_says,
    hand_computed_trajectory_is_met,
    zero_momentum_is_gradient_descent,
    velocity_is_the_last_displacement,
    inputs_stay_as_they_are,
)
