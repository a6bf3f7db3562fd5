"""Checks that every method must pass: test_methods runs them, test_mutants shows they can fail.

They run the methods on fractions, so every comparison is exact; each raises AssertionError.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from method_oracles import ORACLES, Course

from ngs.methods import Method


def fractions(*texts: str) -> tuple[Fraction, ...]:
    return tuple(Fraction(text) for text in texts)


COURSE = Course(
    fractions("1/3", "1/5", "1/2", "1/4"),
    {
        "momentum": fractions("1/2", "2/3", "1/7", "4/5", "3/8"),
        "correction": fractions("1/6", "3/4", "2/5", "5/7", "1/3"),
        "peek": fractions("2/7", "1/4", "3/5", "1/9", "5/6"),
        "output": fractions("3/7", "5/8", "1/6", "2/9", "3/4"),
        "mixing": fractions("2/5", "1/3", "5/6", "1/8", "3/7"),
        "pull": fractions("1/4", "3/7", "1/9", "2/3", "4/5"),
        "stride": fractions("3/2", "7/3", "2", "5/4", "8/5"),
    },
)
"""Four steps, no two values of a name alike, so that a coefficient of the wrong step shows."""

HAND_COURSE = Course(
    fractions("1/2", "1/4", "1/2"),
    {
        "momentum": fractions("1/2", "1/4", "1/2", "1/4"),
        "correction": fractions("1/4", "1/2", "1/2", "1"),
        "peek": fractions("1/2", "1/2", "1/4", "1"),
        "output": fractions("1/4", "1/2", "1", "1"),
        "mixing": fractions("1/2", "1/2", "1/4", "1"),
        "pull": fractions("1/2", "1/4", "1/2", "1"),
        "stride": fractions("3/2", "2", "1", "1"),
    },
)

HAND_COMPUTED = {
    "gradient_descent": fractions("1", "1/2", "3/8", "3/16"),
    "heavy_ball": fractions("1", "1/2", "1/4", "0"),
    "nesterov": fractions("1", "1/2", "9/32", "11/128"),
    "nesterov_stored": fractions("1", "1/2", "9/32", "11/128"),
    "fista": fractions("1", "1/2", "9/32", "11/128"),
    "three_sequences": fractions("1", "1/2", "9/32", "15/128"),
    "ogm": fractions("1", "1/8", "-3/128", "-15/256"),
    "triple_momentum": fractions("1", "3/8", "7/32", "-9/64"),
    "torch_sgd": fractions("1", "1/4", "5/32", "-3/128"),
    "keras_sgd": fractions("1", "1/4", "9/64", "-3/256"),
}
"""Iterates on f = theta^2/2 from 1 under HAND_COURSE, worked out on paper."""

THETA = Fraction(7, 3)


def slope(theta: Any) -> Any:
    """Gradient of theta^2 - theta, whose minimiser is not the origin."""
    return 2 * theta - 1


def rows(method: Method, course: Course) -> list[tuple[Any, ...]]:
    """Return what the method takes at each step: the step size and its coefficients."""

    def value(name: str, t: int) -> Any:
        if name.startswith("next_"):
            return course.values[name.removeprefix("next_")][t + 1]
        return course.values[name][t]

    return [
        (lr, *(value(name, t) for name in method.coefficients)) for t, lr in enumerate(course.rates)
    ]


class Run(NamedTuple):
    """The states before and after every step, the gradient points, and the iterates."""

    states: list[Any]
    points: list[Any]
    iterates: list[Any]


def run(
    method: Method, theta: Any, grad: Callable[[Any], Any], steps: Iterable[tuple[Any, ...]]
) -> Run:
    steps = list(steps)
    states, points = [method.start(theta)], []
    iterates = [method.iterate(states[0], *steps[0][1:])]
    for lr, *coefficients in steps:
        points.append(method.gradient_point(states[-1], *coefficients))
        states.append(method.step(states[-1], grad(points[-1]), lr, *coefficients))
        iterates.append(method.iterate(states[-1], *coefficients))
    return Run(states, points, iterates)


def state_of(method: Method, first: Any, second: Any) -> Any:
    """Return a state of the method's own kind that holds two given vectors."""
    return type(method.start(first))(first, second)


def exact_run(method: Method) -> Run:
    return run(method, THETA, slope, rows(method, COURSE))


def gradients_are_taken_at_the_points_of_the_textbook(method: Method) -> None:
    assert exact_run(method).points == ORACLES[method.name](THETA, slope, COURSE).points


def iterates_are_those_of_the_textbook(method: Method) -> None:
    assert exact_run(method).iterates == ORACLES[method.name](THETA, slope, COURSE).iterates


def states_hold_what_their_attributes_say(method: Method) -> None:
    found = [tuple(state) for state in exact_run(method).states]
    assert found == ORACLES[method.name](THETA, slope, COURSE).kept


def hand_computed_trajectory_is_met(method: Method) -> None:
    found = run(method, Fraction(1), lambda theta: theta, rows(method, HAND_COURSE))
    assert tuple(found.iterates) == HAND_COMPUTED[method.name]


def with_every_coefficient_zero_it_is_gradient_descent(method: Method) -> None:
    zeros = {name: [Fraction(0)] * len(row) for name, row in COURSE.values.items()}
    found = run(method, THETA, slope, rows(method, Course(COURSE.rates, zeros)))
    theta, expected = THETA, [THETA]
    for lr in COURSE.rates:
        theta = theta - lr * slope(theta)
        expected.append(theta)
    assert found.iterates == expected
    assert found.points == expected[:-1]


def velocity_is_the_last_displacement(method: Method) -> None:
    found = exact_run(method)
    if not hasattr(found.states[0], "velocity"):
        return
    has_theta = hasattr(found.states[0], "theta")
    positions = [s.theta for s in found.states] if has_theta else found.iterates
    assert found.states[0].velocity == 0
    for (old, new), state in zip(pairwise(positions), found.states[1:], strict=True):
        assert state.velocity == new - old


def start_is_at_rest_where_it_was_told(method: Method) -> None:
    for theta in (THETA, Fraction(0)):
        for lr, *coefficients in rows(method, COURSE):
            state = method.start(theta)
            for _ in range(3):
                assert method.iterate(state, *coefficients) == theta
                assert method.gradient_point(state, *coefficients) == theta
                state = method.step(state, Fraction(0), lr, *coefficients)


def inputs_stay_as_they_are(method: Method) -> None:
    lr, *coefficients = (float(x) for x in rows(method, COURSE)[1])
    vectors = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    theta, grad = np.array([7.0, 0.75]), np.array([4.0, 0.25])
    given = (*vectors, theta, grad)
    copies = [x.copy() for x in given]
    state = state_of(method, *vectors)
    method.gradient_point(state, *coefficients)
    method.step(state, grad, lr, *coefficients)
    method.iterate(state, *coefficients)
    method.step(method.start(theta), grad, lr, *coefficients)
    for x, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


CHECKS = (
    gradients_are_taken_at_the_points_of_the_textbook,
    iterates_are_those_of_the_textbook,
    states_hold_what_their_attributes_say,
    hand_computed_trajectory_is_met,
    with_every_coefficient_zero_it_is_gradient_descent,
    velocity_is_the_last_displacement,
    start_is_at_rest_where_it_was_told,
    inputs_stay_as_they_are,
)
