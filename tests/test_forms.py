"""The claims of ngs.conversions: where two forms are one method, and where they are not.

Every claim is shown both ways: equal where it holds, visibly apart where its condition is broken.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from form_courses import (
    ANY_MOMENTA,
    ANY_RATES,
    APART,
    BETA,
    CHANGE,
    COURSES,
    CUT,
    EQUAL,
    ETA,
    FORMS,
    ROOT,
    STEPS,
    THETA,
    WEIGHTS,
    Form,
    anchor_course,
    distance,
    first_difference,
    follow,
    slope,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from method_checks import rows
from method_oracles import Course

from ngs import conversions as convert
from ngs import methods, schedules
from ngs.methods import METHODS, AnchorState, FrameworkState, PairState, State, StoredState
from ngs.schedules import coefficients_at

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


def from_rest(method, course, grad=slope, theta=THETA):
    return follow(method, method.start(theta), grad, rows(method, course))


# --- states, there and back ----------------------------------------------------------------------

numbers = st.integers(-450, 450).map(lambda n: Fraction(n, 49))
coefficients = st.integers(1, 60).map(lambda n: Fraction(n, 60))


@PROPERTY
@given(numbers, numbers, st.one_of(st.just(Fraction(0)), coefficients))
def test_stored_and_keras_states_go_there_and_back_under_any_momentum(first, second, momentum):
    for into, out_of, kind in (
        (convert.stored_from_lookahead, convert.lookahead_from_stored, StoredState),
        (convert.keras_from_lookahead, convert.lookahead_from_keras, FrameworkState),
    ):
        assert out_of(into(State(first, second), momentum), momentum) == State(first, second)
        assert into(out_of(kind(first, second), momentum), momentum) == kind(first, second)


@PROPERTY
@given(numbers, numbers, coefficients, coefficients)
def test_pair_anchor_and_torch_states_go_there_and_back_where_they_divide_by_no_zero(
    first, second, momentum, other
):
    for into, out_of, kind, given_numbers in (
        (convert.fista_from_lookahead, convert.lookahead_from_fista, PairState, (momentum,)),
        (
            convert.anchor_from_lookahead,
            convert.lookahead_from_anchor,
            AnchorState,
            (other, momentum),
        ),
        (
            convert.torch_from_lookahead,
            convert.lookahead_from_torch,
            FrameworkState,
            (other, momentum),
        ),
    ):
        there = into(State(first, second), *given_numbers)
        assert isinstance(there, kind)
        assert out_of(there, *given_numbers) == State(first, second)
        assert into(out_of(kind(first, second), *given_numbers), *given_numbers) == (first, second)


def test_without_momentum_a_pair_and_an_anchor_give_back_no_velocity():
    zero, half = Fraction(0), Fraction(1, 2)
    state = State(Fraction(2), Fraction(3))
    pair = convert.fista_from_lookahead(state, zero)
    assert pair == PairState(2, 2)
    assert convert.lookahead_from_fista(pair, zero) == State(2, 0)
    anchor = convert.anchor_from_lookahead(state, half, zero)
    assert anchor == AnchorState(2, 2)
    assert convert.lookahead_from_anchor(anchor, half, zero) == State(2, 0)
    assert convert.lookahead_from_fista(PairState(Fraction(2), Fraction(5)), zero) == State(2, 0)
    apart = AnchorState(Fraction(2), Fraction(5))
    assert convert.lookahead_from_anchor(apart, half, zero) == State(2, 0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_start_at_rest_converts_to_the_start_of_the_other_form(form):
    course = COURSES["a root"]
    ahead, other = methods.nesterov.start(Fraction(2)), form.method.start(Fraction(2))
    assert form.into(ahead, course, 1) == other
    assert form.out_of(other, course, 1) == ahead


# --- "Exact:" shown both ways --------------------------------------------------------------------


def both_from_a_lookahead_state(form: Form, course: Course):
    """Take CUT steps in look-ahead form, convert, and go on in both."""
    ahead, other = rows(methods.nesterov, course), rows(form.method, course)
    state = follow(methods.nesterov, methods.nesterov.start(THETA), slope, ahead[:CUT]).state
    return (
        follow(methods.nesterov, state, slope, ahead[CUT:]),
        follow(form.method, form.into(state, course, CUT), slope, other[CUT:]),
    )


def both_from_a_state_of_the_form(form: Form, course: Course):
    """Take CUT steps in the other form, convert to look-ahead form, and go on in both."""
    ahead, other = rows(methods.nesterov, course), rows(form.method, course)
    state = follow(form.method, form.method.start(THETA), slope, other[:CUT]).state
    return (
        follow(methods.nesterov, form.out_of(state, course, CUT), slope, ahead[CUT:]),
        follow(form.method, state, slope, other[CUT:]),
    )


both_ways = pytest.mark.parametrize(
    "both", [both_from_a_lookahead_state, both_from_a_state_of_the_form]
)


@both_ways
@pytest.mark.parametrize(("form", "course"), EQUAL)
def test_a_converted_state_goes_on_equal_where_the_conversion_is_exact(form, course, both):
    ahead, other = both(FORMS[form], COURSES[course])
    assert distance(ahead.points, other.points) == 0.0
    if FORMS[form].keeps_iterates:
        assert distance(ahead.iterates, other.iterates) == 0.0


@both_ways
@pytest.mark.parametrize(("form", "course"), APART)
def test_a_converted_state_visibly_parts_where_the_conversion_is_not_exact(form, course, both):
    ahead, other = both(FORMS[form], COURSES[course])
    assert distance(ahead.points, other.points) > 1e-2


def test_a_conversion_for_another_step_is_not_exact():
    course = COURSES["any learning rates and momenta"]
    for form in (FORMS["stored"], FORMS["fista"]):
        steps = rows(methods.nesterov, course)
        state = follow(methods.nesterov, methods.nesterov.start(THETA), slope, steps[:CUT]).state
        ahead = follow(methods.nesterov, state, slope, steps[CUT:])
        converted = form.into(state, course, CUT + 1)
        other = follow(form.method, converted, slope, rows(form.method, course)[CUT:])
        assert distance(ahead.points, other.points) > 1e-2


@pytest.mark.parametrize(
    ("name", "course", "first"),
    [
        ("torch_sgd", "one drop of the momentum", CHANGE),
        ("torch_sgd", "one drop of the learning rate", CHANGE + 1),
        ("keras_sgd", "one drop of the momentum", CHANGE),
    ],
)
def test_a_framework_follows_nesterov_to_the_change_and_parts_there(name, course, first):
    ahead = from_rest(methods.nesterov, COURSES[course])
    framework = from_rest(METHODS[name], COURSES[course])
    assert first_difference(ahead.points, framework.points) == first


def test_the_torch_form_stays_equal_over_a_drop_if_its_buffer_is_rescaled_there():
    course = COURSES["one drop of the learning rate"]
    ahead = from_rest(methods.nesterov, course)
    steps = rows(methods.torch_sgd, course)
    before = follow(methods.torch_sgd, methods.torch_sgd.start(THETA), slope, steps[:CHANGE])
    rescaled = convert.torch_from_lookahead(
        convert.lookahead_from_torch(before.state, course.rates[CHANGE - 1], BETA),
        course.rates[CHANGE],
        BETA,
    )
    after = follow(methods.torch_sgd, rescaled, slope, steps[CHANGE:])
    assert distance(ahead.points, before.points + after.points) == 0.0


def test_frameworks_promise_the_lookahead_point_and_not_the_iterate():
    course = COURSES["all constant"]
    ahead = from_rest(methods.nesterov, course)
    for framework in (methods.torch_sgd, methods.keras_sgd):
        found = from_rest(framework, course)
        assert distance(found.iterates[:-1], ahead.points[1:]) == 0.0
        assert distance(found.iterates, ahead.iterates) > 1e-2


# --- the optimized gradient method and triple momentum as three sequences -------------------------


def optimized_course(weights):
    pairs = list(pairwise(weights))
    values = {
        "momentum": [(now - 1) / after for now, after in pairs],
        "correction": [now / after for now, after in pairs],
    }
    return Course(ANY_RATES, values)


def test_ogm_is_nesterov_in_three_sequences_with_the_anchors_steps_doubled():
    anchors = [convert.anchor_coefficients_optimized(ETA, w) for w in WEIGHTS]
    found = from_rest(methods.ogm, optimized_course(WEIGHTS))
    expected = from_rest(methods.three_sequences, anchor_course(anchors))
    assert distance(expected.points, found.points) == 0.0
    gradient_steps = [y - lr * slope(y) for y, lr in zip(found.points, ANY_RATES, strict=True)]
    assert distance(expected.iterates, gradient_steps) == 0.0


def test_ogm_is_not_nesterov_in_three_sequences_with_single_steps():
    anchors = [convert.anchor_coefficients_convex(ETA, w) for w in WEIGHTS]
    found = from_rest(methods.ogm, optimized_course(WEIGHTS))
    single = from_rest(methods.three_sequences, anchor_course(anchors))
    assert distance(single.points, found.points) > 1e-2


def test_ogm_is_not_three_sequences_under_coefficients_that_come_from_no_weights():
    anchors = [convert.anchor_coefficients_optimized(ETA, w) for w in WEIGHTS]
    course = optimized_course(WEIGHTS)
    other = Course(course.rates, course.values | {"momentum": ANY_MOMENTA})
    expected = from_rest(methods.three_sequences, anchor_course(anchors))
    assert distance(expected.points, from_rest(methods.ogm, other).points) > 1e-2


RHO = 1 - 1 / ROOT
TRIPLE = {
    "momentum": RHO**2 / (2 - RHO),
    "peek": RHO**2 / ((1 + RHO) * (2 - RHO)),
    "output": RHO**2 / (1 - RHO**2),
}


def triple_course(scale):
    rates = [scale * lr for lr in ANY_RATES]
    return Course(rates, {name: [value] * STEPS for name, value in TRIPLE.items()})


def test_triple_momentum_is_nesterov_in_three_sequences_with_the_mixing_doubled():
    anchors = [convert.anchor_coefficients_triple(ETA, ROOT)] * STEPS
    found = from_rest(methods.triple_momentum, triple_course(1 + RHO))
    expected = from_rest(methods.three_sequences, anchor_course(anchors))
    assert distance(expected.points, found.points) == 0.0
    steps = rows(methods.three_sequences, anchor_course(anchors))
    for t in (1, 7, STEPS):
        start = methods.three_sequences.start(THETA)
        state = follow(methods.three_sequences, start, slope, steps[:t]).state
        assert (state.anchor == found.iterates[t - 1]).all(), "the outputs are the anchors"


@pytest.mark.parametrize(
    ("coefficients_of", "scale"),
    [
        (convert.anchor_coefficients_triple, 1),
        (convert.anchor_coefficients_strongly_convex, 1 + RHO),
    ],
    ids=["with the step size of the three sequences", "with single mixing"],
)
def test_triple_momentum_parts_from_three_sequences_elsewhere(coefficients_of, scale):
    anchors = [coefficients_of(ETA, ROOT)] * STEPS
    found = from_rest(methods.triple_momentum, triple_course(scale))
    other = from_rest(methods.three_sequences, anchor_course(anchors))
    assert distance(other.points, found.points) > 1e-2


# --- a thousand steps in float64, under the schedules of the library ------------------------------

LONG = 1000


def bowl(seed):
    """Return the gradient of a random quadratic with curvature from 1/100 to 1, and a start."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    A, center = Q @ np.diag(np.geomspace(0.01, 1.0, 12)) @ Q.T, rng.normal(size=(12, 1))
    return (lambda theta: A @ (theta - center)), 3.0 * rng.normal(size=(12, 1))


def long_run(method, seed, lr_at, momentum):
    grad, theta = bowl(seed)
    numbers_at = [(lr_at(t), *coefficients_at(method, momentum, t)) for t in range(LONG)]
    return follow(method, method.start(theta), grad, numbers_at)


def test_lookahead_stored_and_fistas_form_agree_over_1000_steps_under_200_random_schedules():
    rng = np.random.default_rng(2)
    rates, momenta = rng.uniform(0.0, 1.0, (LONG, 200)), rng.uniform(0.0, 0.99, (LONG + 1, 200))
    momenta[rng.random(momenta.shape) < 0.02] = 0.0
    grad, theta = bowl(2)
    side_by_side = np.repeat(theta, 200, axis=1)  # a column a schedule
    course = Course(rates, {"momentum": momenta})
    ahead = from_rest(methods.nesterov, course, grad, side_by_side)
    for form in (methods.nesterov_stored, methods.fista):
        other = from_rest(form, course, grad, side_by_side)
        for some, others in ((ahead.points, other.points), (ahead.iterates, other.iterates)):
            apart = np.abs(np.subtract(some, others)).max(axis=(0, 1))
            assert (apart / np.abs(some).max(axis=(0, 1))).max() < 1e-12


@pytest.mark.parametrize("framework", [methods.torch_sgd, methods.keras_sgd])
def test_frameworks_agree_with_the_lookahead_form_over_1000_steps_of_constants(framework):
    ahead = long_run(methods.nesterov, 1, schedules.Constant(0.1), 0.95)
    other = long_run(framework, 1, schedules.Constant(0.1), 0.95)
    assert distance(ahead.points, other.points) < 1e-12


DROP = schedules.Chain(((schedules.Constant(0.1), 50), (schedules.Constant(0.01), 1)))
FALL = schedules.Chain(((schedules.Constant(0.95), 10), (schedules.Constant(0.5), 1)))


@pytest.mark.parametrize(
    ("framework", "lr_at", "momentum", "equal"),
    [
        (methods.torch_sgd, DROP, 0.95, False),
        (methods.torch_sgd, schedules.Constant(0.1), FALL, False),
        (methods.keras_sgd, DROP, 0.95, True),
        (methods.keras_sgd, schedules.Constant(0.1), FALL, False),
    ],
    ids=["torch, lr drop", "torch, momentum drop", "keras, lr drop", "keras, momentum drop"],
)
def test_over_1000_steps_keras_bears_a_drop_of_the_learning_rate_and_nothing_else_is_borne(
    framework, lr_at, momentum, equal
):
    ahead = long_run(methods.nesterov, 1, lr_at, momentum)
    other = long_run(framework, 1, lr_at, momentum)
    apart = distance(ahead.points, other.points)
    assert (apart < 1e-12) == equal
    assert (apart > 1e-2) != equal


@pytest.mark.parametrize(
    ("momentum", "anchor"),
    [
        (schedules.NesterovMomentum(), schedules.ConvexAnchor()),
        (schedules.StronglyConvexMomentum(100.0), schedules.StronglyConvexAnchor(100.0)),
    ],
    ids=["convex", "strongly convex"],
)
def test_three_sequences_agree_with_nesterov_over_1000_steps_under_the_schedules_made_for_it(
    momentum, anchor
):
    lr_at = schedules.Cosine(1.0, 0.1, steps=LONG)
    ahead = long_run(methods.nesterov, 1, lr_at, momentum)
    other = long_run(methods.three_sequences, 1, lr_at, anchor)
    assert distance(ahead.points, other.points) < 1e-12
    assert distance(ahead.iterates, other.iterates) < 1e-12
    wrong = long_run(methods.three_sequences, 1, lr_at, schedules.StronglyConvexAnchor(9.0))
    assert distance(ahead.points, wrong.points) > 1e-2


def test_ogm_agrees_with_three_sequences_over_1000_steps_with_the_special_last_one():
    schedule = schedules.OptimizedMomentum(LONG)

    def doubled(t):
        return tuple(convert.anchor_coefficients_optimized(1.0, schedule.weight(t)))[1:]

    found = long_run(methods.ogm, 1, schedules.Constant(1.0), schedule)
    other = long_run(methods.three_sequences, 1, schedules.Constant(1.0), doubled)
    assert distance(other.points, found.points) < 1e-12
    last = methods.three_sequences.gradient_point(other.state, *doubled(LONG))
    np.testing.assert_allclose(found.iterates[-1], last, rtol=0, atol=1e-12)


def test_triple_momentum_agrees_with_three_sequences_over_1000_steps():
    schedule = schedules.TripleMomentum(100.0)
    mixing = tuple(convert.anchor_coefficients_triple(1.0, 10.0))[1:]
    found = long_run(methods.triple_momentum, 1, lambda t: schedule.step_size(1.0), schedule)
    other = long_run(methods.three_sequences, 1, schedules.Constant(1.0), mixing)
    assert distance(other.points, found.points) < 1e-12
    np.testing.assert_allclose(found.iterates[-1], other.state.anchor, rtol=0, atol=1e-12)


# --- the real thing -------------------------------------------------------------------------------


def torch_optimizer_path(schedule, *, nesterov, **implementation):
    grad, theta = bowl(3)
    params = torch.nn.Parameter(torch.tensor(theta))
    optimizer = torch.optim.SGD([params], lr=1.0, momentum=0.5, nesterov=nesterov, **implementation)
    path = []
    for lr, momentum in schedule:
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        params.grad = torch.tensor(grad(params.detach().numpy()))
        optimizer.step()
        path.append(params.detach().numpy().copy())
    return path


@pytest.mark.parametrize("implementation", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_torch_sgd_is_torchs_own_sgd_under_random_learning_rates_and_momenta(implementation):
    rng = np.random.default_rng(11)
    schedule = list(zip(rng.uniform(0.0, 1.0, 200), rng.uniform(0.01, 0.99, 200), strict=True))
    schedule = [(float(lr), float(momentum)) for lr, momentum in schedule]
    grad, theta = bowl(3)
    found = follow(methods.torch_sgd, methods.torch_sgd.start(theta), grad, schedule)
    theirs = torch_optimizer_path(schedule, nesterov=True, **implementation)
    assert distance(theirs, found.iterates) < 1e-12
    plain = torch_optimizer_path(schedule, nesterov=False, **implementation)
    assert distance(plain, found.iterates) > 1e-2
