"""The acceleration factor: where a rule moves it, what it does not depend on, and the printed
signature of `gradscaling_step`.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.factor import AdditiveRule, Memory, MultiplicativeRule, gradscaling_step

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
vectors = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3).map(np.array)


def products(grad, direction):
    return float(grad @ direction), float(grad @ grad), float(direction @ direction)


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cosine", "change"), [(1.0, math.exp(0.24)), (0.2, 1.0), (-1.0, math.exp(-0.36))]
)
def test_the_multiplicative_rule_is_its_formula(cosine, change):
    rule = MultiplicativeRule(gain=0.3, target=0.2)
    assert rule(2.0, 6.0 * cosine, 4.0, 9.0) == pytest.approx(2.0 * change)


@PROPERTY
@given(grad=vectors, direction=vectors, scale=st.floats(1e-6, 1e6))
def test_the_multiplicative_rule_does_not_see_the_scale_of_the_loss(grad, direction, scale):
    rule = MultiplicativeRule()
    one = rule(1.0, *products(grad, direction))
    other = rule(1.0, *products(scale * grad, scale * direction))
    if min(grad @ grad, direction @ direction) > 1e-12:
        assert other == pytest.approx(one, rel=1e-6)


@PROPERTY
@given(
    start=st.floats(1e-3, 1e3),
    cases=st.lists(st.tuples(vectors, vectors), min_size=1, max_size=30),
)
def test_the_multiplicative_rule_stays_within_its_bounds(start, cases):
    rule, factor = MultiplicativeRule(gain=2.0, minimum=1e-3, maximum=1e3), start
    for grad, direction in cases:
        factor = rule(factor, *products(grad, direction))
        assert 1e-3 <= factor <= 1e3


@pytest.mark.parametrize(
    "bad",
    [
        (0.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
        (math.nan, 1.0, 1.0),
        (math.inf, math.inf, 1.0),
        (1.0, math.nan, 1.0),
    ],
)
def test_the_multiplicative_rule_stays_where_there_is_no_angle(bad):
    assert MultiplicativeRule()(3.0, *bad) == 3.0


def test_both_rules_move_with_the_derivative_of_the_loss_by_the_factor():
    # f(a) = |theta - a d|^2 / 2 along d: the inner product is minus its derivative.
    theta, d = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    for alpha in (0.5, 1.0, 3.0, -2.0):
        grad = theta - alpha * d
        h = 1e-6
        slope = sum(s * 0.5 * np.sum((theta - (alpha + s * h) * d) ** 2) for s in (1.0, -1.0)) / (
            2 * h
        )
        inner = products(grad, d)[0]
        assert inner == pytest.approx(-slope, abs=1e-6)
        for rule in (MultiplicativeRule(target=0.0), AdditiveRule(0.1)):
            moved = rule(1.0, *products(grad, d)) - 1.0
            assert moved * slope < 0.0


def test_the_additive_rule_can_make_the_factor_negative_and_sees_the_scale_of_the_loss():
    rule = AdditiveRule(gain=1e-3)
    assert rule(0.001, -2.0, 1.0, 4.0) == pytest.approx(-0.001)
    assert rule(1.0, 4e6, 1.0, 1.0) - 1.0 == pytest.approx(1e6 * (rule(1.0, 4.0, 1.0, 1.0) - 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiplicativeRule(gain=0.0), r"gain must be finite and above 0, got 0\.0"),
        (lambda: MultiplicativeRule(gain=math.inf), "got inf"),
        (lambda: MultiplicativeRule(target=1.0), r"target must lie in \(-1, 1\), got 1\.0"),
        (lambda: MultiplicativeRule(target=math.nan), "got nan"),
        (lambda: MultiplicativeRule(minimum=0.0), r"got 0\.0 and 10000\.0"),
        (lambda: MultiplicativeRule(minimum=2.0, maximum=1.0), r"got 2\.0 and 1\.0"),
        (lambda: AdditiveRule(gain=-1.0), r"gain must be finite and above 0, got -1\.0"),
    ],
)
def test_rules_refuse_impossible_parameters(make, message):
    with pytest.raises(InputError, match=message):
        make()


# --- gradscaling_step ---------------------------------------------------------------------------


def half_square(parameters):
    return 0.5 * sum(float((p * p).sum()) for p in parameters)


def test_without_memory_the_gradients_come_back_as_they_are_with_the_loss():
    theta = [np.array([1.0, 2.0]), np.array([[3.0]])]
    scaled, loss = gradscaling_step(theta, theta, half_square)
    assert loss == 7.0
    for given_, found in zip(theta, scaled, strict=True):
        np.testing.assert_array_equal(found, given_)
        assert found is not given_


def test_the_factor_follows_the_rule_over_all_parameters_together():
    memory, rule = Memory(), MultiplicativeRule(gain=0.5, target=0.0)
    first = [np.array([1.0, 0.0]), np.array([[2.0]])]
    second = [np.array([0.0, 3.0]), np.array([[-1.0]])]
    scaled, _ = gradscaling_step(first, first, half_square, memory=memory, rule=rule)
    assert memory.factor == 1.0
    np.testing.assert_array_equal(scaled[0], first[0])
    scaled, _ = gradscaling_step(second, second, half_square, memory=memory, rule=rule)
    expected = math.exp(0.5 * -2.0 / math.sqrt(5.0 * 10.0))
    assert memory.factor == pytest.approx(expected)
    np.testing.assert_allclose(scaled[0], expected * second[0])
    np.testing.assert_allclose(scaled[1], expected * second[1])


def test_what_was_handed_in_is_neither_changed_nor_kept():
    memory = Memory()
    gradient = np.array([1.0, 2.0])
    gradscaling_step([gradient], [gradient], half_square, memory=memory)
    gradient *= -1.0  # a caller that reuses its buffer must not change the past
    gradscaling_step([gradient], [gradient], half_square, memory=memory)
    assert memory.factor == pytest.approx(math.exp(0.15 * (-1.0 + 0.1)))


def test_tensors_and_arrays_and_floats_give_the_same_factor():
    found = []
    for kind in (np.array, torch.tensor, float):
        memory = Memory()
        for value in (1.0, 0.5, -0.25):
            gradients = [kind(value), kind(2.0)]
            gradscaling_step(gradients, gradients, lambda p: 0.0, memory=memory)
        found.append(memory.factor)
    assert found == pytest.approx([found[0]] * 3)


def test_a_learned_factor_saves_a_learning_rate_that_is_a_thousand_times_too_small():
    curvature = np.array([1.0, 10.0])

    def objective(parameters):
        return float(0.5 * (curvature * parameters[0] ** 2).sum())

    losses = {}
    for learned in (False, True):
        theta, memory = np.array([1.0, 1.0]), Memory() if learned else None
        for _ in range(300):
            scaled, _ = gradscaling_step([theta], [curvature * theta], objective, memory=memory)
            theta = theta - 1e-4 * scaled[0]
        losses[learned] = objective([theta])
    assert losses[False] > 3.0
    assert losses[True] < 1e-2


@pytest.mark.parametrize(
    ("parameters", "gradients", "message"),
    [
        ([1.0], [], "got 0 gradients for 1 parameters"),
        ([np.ones(2)], [np.ones(3)], r"gradient 0 must have the shape .* \(2,\), got \(3,\)"),
        ([np.ones(2)], [1.0], r"got \(\)"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(parameters, gradients, message):
    with pytest.raises(InputError, match=message):
        gradscaling_step(parameters, gradients, lambda p: 0.0)


def test_a_memory_of_another_model_is_refused_and_left_as_it_was():
    memory = Memory()
    gradscaling_step([np.ones(2)], [np.ones(2)], half_square, memory=memory)
    with pytest.raises(InputError, match=r"make a new Memory\(\)"):
        gradscaling_step([np.ones(3)], [np.ones(3)], half_square, memory=memory)
    assert memory.factor == 1.0
    assert memory.direction[0].shape == (2,)
