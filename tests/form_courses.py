"""What test_forms runs: courses of coefficients, and each form with the way to it and back.

Everything is in fractions, so "equal" is exact.
"""

import random
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from method_oracles import Course

from ngs import conversions as convert
from ngs import methods
from ngs.methods import Method

STEPS, CUT, CHANGE = 40, 15, 20
"""A run; the step before which a state is converted; the step of a drop after that."""

ETA, BETA, ROOT = Fraction(1, 20), Fraction(4, 5), Fraction(5, 2)

MATRIX = np.array([[2, 1, 0], [1, 3, -1], [0, -1, 1]], dtype=object) * Fraction(1, 2)
CENTER = np.array([Fraction(1), Fraction(-2), Fraction(1, 3)])
THETA = np.array([Fraction(5), Fraction(7, 2), Fraction(-3)])


def slope(theta: Any) -> Any:
    """Gradient of a quadratic that couples three coordinates; its L is below 2."""
    return MATRIX @ (theta - CENTER)


class Path(NamedTuple):
    """Gradient points, iterates after each step, and the last state."""

    points: list[Any]
    iterates: list[Any]
    state: Any


def follow(method: Method, state: Any, grad: Callable[[Any], Any], steps: list) -> Path:
    points, iterates = [], []
    for lr, *coefficients in steps:
        points.append(method.gradient_point(state, *coefficients))
        state = method.step(state, grad(points[-1]), lr, *coefficients)
        iterates.append(method.iterate(state, *coefficients))
    return Path(points, iterates, state)


def distance(some: list[Any], others: list[Any]) -> float:
    """Largest difference, relative to the largest coordinate; 0.0 only where all are equal."""
    size = max(abs(x).max() for x in some)
    return float(max(abs(a - b).max() for a, b in zip(some, others, strict=True)) / size)


def first_difference(some: list[Any], others: list[Any]) -> int:
    pairs = enumerate(zip(some, others, strict=True))
    return next(t for t, (a, b) in pairs if (a != b).any())


# --- courses: what the coefficients do over the steps --------------------------------------------

dice = random.Random(5)
ANY_RATES = [Fraction(dice.randint(0, 9), 100) for _ in range(STEPS)]
ANY_MOMENTA = [Fraction(dice.randint(0, 9), 10) for _ in range(STEPS + 1)]
WEIGHTS = [Fraction(1)] + [Fraction(dice.randint(4, 20), 4) for _ in range(STEPS + 1)]
"""lambda_1, lambda_2, ...: the one at place t belongs to step t."""


def dropped(value: Fraction, at: int, steps: int) -> list[Fraction]:
    return [value] * at + [value / 10] * (steps - at)


def momentum_course(*, rates: list | None = None, momenta: list | None = None) -> Course:
    return Course(rates or [ETA] * STEPS, {"momentum": momenta or [BETA] * (STEPS + 1)})


def anchor_course(anchors: list[convert.AnchorCoefficients], momenta: list | None = None) -> Course:
    values = {
        "mixing": [c.mixing for c in anchors],
        "pull": [c.pull for c in anchors],
        "stride": [c.stride for c in anchors],
    }
    return Course(ANY_RATES, values | ({} if momenta is None else {"momentum": momenta}))


CONVEX_ANCHORS = [convert.anchor_coefficients_convex(ETA, w) for w in WEIGHTS[:-1]]
STRONG_ANCHORS = [convert.anchor_coefficients_strongly_convex(ETA, ROOT)] * (STEPS + 1)
CONVEX_MOMENTA = [Fraction(0)] + [(now - 1) / after for now, after in pairwise(WEIGHTS[:-1])]
"""beta_t = (lambda_t - 1) / lambda_{t+1}; the first multiplies a velocity of zero."""

COURSES = {
    "all constant": momentum_course(),
    "one drop of the learning rate before": momentum_course(rates=dropped(ETA, CUT - 5, STEPS)),
    "one drop of the learning rate": momentum_course(rates=dropped(ETA, CHANGE, STEPS)),
    "any learning rates": momentum_course(rates=ANY_RATES),
    "one drop of the momentum before": momentum_course(momenta=dropped(BETA, CUT - 5, STEPS + 1)),
    "one drop of the momentum": momentum_course(momenta=dropped(BETA, CHANGE, STEPS + 1)),
    "any momenta": momentum_course(momenta=ANY_MOMENTA),
    "any learning rates and momenta": momentum_course(rates=ANY_RATES, momenta=ANY_MOMENTA),
    "no momentum at the conversion": momentum_course(
        momenta=[Fraction(0) if t == CUT else beta for t, beta in enumerate(ANY_MOMENTA)]
    ),
    "weights": anchor_course(CONVEX_ANCHORS, CONVEX_MOMENTA),
    "a root": anchor_course(STRONG_ANCHORS, [(ROOT - 1) / (ROOT + 1)] * (STEPS + 1)),
    "weights with other momenta": anchor_course(CONVEX_ANCHORS, ANY_MOMENTA),
    "a root with another momentum": anchor_course(STRONG_ANCHORS, [BETA] * (STEPS + 1)),
}


# --- forms, and the way between their states before step t ---------------------------------------

Conversion = Callable[[Any, Course, int], Any]


class Form(NamedTuple):
    """A form beside the look-ahead form.

    ``equal_under`` names the courses under which it is the same method from the conversion on.
    """

    method: Method
    into: Conversion
    out_of: Conversion
    keeps_iterates: bool
    equal_under: set[str]


def by_momentum(function: Callable[..., Any]) -> Conversion:
    return lambda state, course, t: function(state, course.values["momentum"][t])


def by_mixing(function: Callable[..., Any]) -> Conversion:
    return lambda state, course, t: function(
        state, course.values["mixing"][t], course.values["momentum"][t]
    )


def by_rate(function: Callable[..., Any]) -> Conversion:
    return lambda state, course, t: function(state, course.rates[t], course.values["momentum"][t])


CONSTANT_FROM_THE_CONVERSION_ON = {
    "all constant",
    "one drop of the learning rate before",
    "one drop of the momentum before",
}

FORMS = {
    "stored": Form(
        methods.nesterov_stored,
        by_momentum(convert.stored_from_lookahead),
        by_momentum(convert.lookahead_from_stored),
        keeps_iterates=True,
        equal_under=set(COURSES),
    ),
    "fista": Form(
        methods.fista,
        by_momentum(convert.fista_from_lookahead),
        by_momentum(convert.lookahead_from_fista),
        keeps_iterates=True,
        equal_under=set(COURSES),
    ),
    "three sequences": Form(
        methods.three_sequences,
        by_mixing(convert.anchor_from_lookahead),
        by_mixing(convert.lookahead_from_anchor),
        keeps_iterates=True,
        equal_under={"weights", "a root"},
    ),
    "torch": Form(
        methods.torch_sgd,
        by_rate(convert.torch_from_lookahead),
        by_rate(convert.lookahead_from_torch),
        keeps_iterates=False,
        equal_under=CONSTANT_FROM_THE_CONVERSION_ON,
    ),
    "keras": Form(
        methods.keras_sgd,
        by_momentum(convert.keras_from_lookahead),
        by_momentum(convert.lookahead_from_keras),
        keeps_iterates=False,
        equal_under={
            *CONSTANT_FROM_THE_CONVERSION_ON,
            "one drop of the learning rate",
            "any learning rates",
            "a root",
            "a root with another momentum",
        },
    ),
}

CASES = [
    (form, course)
    for form in FORMS
    for course in COURSES
    if form != "three sequences" or "mixing" in COURSES[course].values
]
EQUAL = [(form, course) for form, course in CASES if course in FORMS[form].equal_under]
APART = [(form, course) for form, course in CASES if course not in FORMS[form].equal_under]
