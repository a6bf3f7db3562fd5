"""The acceleration factor: where a rule moves it, what it does not depend on, and the printed
signature of `gradscaling_step`.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.factor import (
    AdditiveRule,
    AngleRule,
    FactorState,
    Memory,
    MultiplicativeRule,
    Signal,
    gradscaling_step,
)

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
        (math.inf, 1.0, 1.0),
    ],
)
def test_the_multiplicative_rule_stays_where_there_is_no_angle(bad):
    assert MultiplicativeRule()(3.0, *bad) == 3.0


def test_a_cosine_is_found_where_the_product_of_the_squares_leaves_the_range_of_floats():
    rule = MultiplicativeRule(gain=1.0, target=0.0)
    for square in (1e-200, 1e200):
        assert rule(1.0, 0.5 * square, square, square) == pytest.approx(math.exp(0.5))
    assert rule(1.0, 1.0 + 1e-9, 1.0, 1.0) == math.exp(1.0), "rounding makes no angle below 0"


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
        (lambda: MultiplicativeRule(target=-1.0), r"got -1\.0"),
        (lambda: MultiplicativeRule(target=math.nan), "got nan"),
        (lambda: MultiplicativeRule(minimum=0.0), r"got 0\.0 and 10000\.0"),
        (lambda: MultiplicativeRule(minimum=2.0, maximum=1.0), r"got 2\.0 and 1\.0"),
        (lambda: AdditiveRule(gain=-1.0), r"gain must be finite and above 0, got -1\.0"),
    ],
)
def test_rules_refuse_impossible_parameters(make, message):
    with pytest.raises(InputError, match=message):
        make()


# --- the rule of the angle -----------------------------------------------------------------------


DEFAULTS = {
    "gain": 0.5,
    "share": 0.25,
    "patience": 3.0,
    "down": 0.5,
    "smoothing": 0.8,
    "start": 0.1,
    "hold": 0.5,
    "spike": 2.0,
    "memory": 0.9,
}
OTHERS = {
    "gain": 0.3,
    "share": 0.4,
    "patience": 1.7,
    "down": 0.8,
    "smoothing": 0.6,
    "start": 0.02,
    "hold": 0.25,
    "spike": 1.4,
    "memory": 0.75,
}


def signal(cosine=0.5, length=1.0, travelled=1.0, lr=1.0):
    return Signal(cosine * length * travelled, length**2, travelled**2, lr)


def followed(rule, signals):
    """Return the states after each signal."""
    states = [FactorState()]
    for one in signals:
        states.append(rule.follow(states[-1], one))
    return states[1:]


def learned(signals, *, gain, share, patience, down, smoothing, start, hold, spike, memory):
    """The formulas of the class with the learned rate A itself: pairs of factor and damping."""
    rate, peak, means, sides, usual, found = None, 0.0, [], [], None, []
    for inner, grad_square, direction_square, lr in signals:
        if lr == 0.0:
            found.append((found[-1][0] if found else 1.0, 1.0))
            continue
        rate, peak = start * lr if rate is None else rate, max(peak, lr)
        if grad_square * direction_square > 0.0 and lr >= hold * peak:
            cosine = inner / math.sqrt(grad_square * direction_square)
            last = means[-1] if means else cosine
            means.append(smoothing * last + (1.0 - smoothing) * cosine)
            target = -share * max(0.0, *means)
            sides.append(cosine > target)
            crossings = sum(a != b for a, b in pairwise(sides))
            slower = 1.0 if sides[-1] else down
            rate *= math.exp(gain / (1.0 + crossings / patience) * slower * (cosine - target))
        damping = 1.0
        if grad_square > 0.0:
            shown = grad_square if usual is None else min(grad_square, spike**2 * usual)
            damping = math.sqrt(shown / grad_square)
            usual = shown if usual is None else memory * usual + (1.0 - memory) * shown
        found.append((rate / peak, damping))
    return found


RATES = [0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 0.8, 0.6, 0.4, 0.4, 0.39, 0.2, 0.0, 0.1, 0.8, 0.9]
"""Warm-up from zero, decay to the share that is held, exactly and below it, and a higher peak."""


@pytest.mark.parametrize("numbers", [DEFAULTS, OTHERS], ids=["defaults", "others"])
@pytest.mark.parametrize("lrs", [[0.7] * 80, RATES * 5], ids=["constant", "schedule"])
@pytest.mark.parametrize("seed", range(4))
def test_the_angle_rule_is_its_formulas(numbers, lrs, seed):
    rng = np.random.default_rng(seed)
    cosines = np.clip(rng.normal(0.3, 0.4, 80) - np.linspace(0.0, 0.5, 80), -1.0, 1.0)
    lengths = np.exp(rng.normal(0.0, 1.0, 80)) * (rng.random(80) > 0.1)
    travelled = np.exp(rng.normal(-3.0, 1.0, 80)) * (rng.random(80) > 0.1)
    columns = zip(cosines, lengths, travelled, lrs, strict=True)
    signals = [signal(*map(float, row)) for row in columns]
    rule = AngleRule(**numbers)
    expected = learned(signals, **numbers)
    found = [(state.factor, state.damping) for state in followed(rule, signals)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert min(damping for _, damping in found) < 0.7
    if numbers is DEFAULTS:
        assert followed(AngleRule(), signals) == followed(rule, signals)


def test_the_angle_rule_does_not_see_the_scale_of_the_loss():
    draws = np.random.default_rng(0).uniform(-1.0, 1.0, (40, 4))
    rates = {}
    for scale in (1.0, 1024.0):
        signals = [signal(c, scale * (1.1 + a), 1.1 + b, (1.1 + d) / scale) for c, a, b, d in draws]
        states = followed(AngleRule(), signals)
        pairs = zip(states, signals, strict=True)
        rates[scale] = [state.factor * state.damping * one.lr for state, one in pairs]
    assert [1024.0 * rate for rate in rates[1024.0]] == rates[1.0]


def test_the_angle_rule_stays_within_its_bounds_and_comes_back_from_them():
    rule = AngleRule(gain=5.0, minimum=0.01, maximum=100.0)
    up, down = [signal(1.0)] * 30, [signal(-1.0)] * 300
    factors = [state.factor for state in followed(rule, up + down + up)]
    assert max(factors) == factors[29] == 100.0
    assert min(factors) == factors[329] == 0.01
    assert factors[30] < 100.0
    assert factors[330] > 0.01


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan])
def test_a_gradient_without_a_length_neither_moves_nor_damps_nor_is_remembered(bad):
    before = followed(AngleRule(), [signal(0.2), signal(-0.5, 9.0)])[-1]
    after = AngleRule().follow(before, Signal(bad, bad, 1.0, 1.0))
    assert after == before._replace(damping=1.0)
    assert before.damping < 1.0


def test_the_damping_of_one_step_ends_where_the_learning_rate_is_zero():
    state = followed(AngleRule(), [signal(), signal(0.5, 100.0)])[-1]
    assert state.damping == pytest.approx(0.02)
    assert AngleRule().follow(state, signal(lr=0.0)) == state._replace(damping=1.0)


def test_an_infinite_spike_damps_nothing():
    states = followed(AngleRule(spike=math.inf), [signal(), signal(0.5, 1e6), signal(0.5, 1e-6)])
    assert [state.damping for state in states] == [1.0] * 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *[({name: 0.0}, f"{name} must be finite and above 0") for name in ("gain", "start")],
        *[({name: math.inf}, f"{name} .* got inf") for name in ("patience", "down")],
        *[({name: 1.0}, rf"{name} must lie in \[0, 1\), got 1\.0") for name in ("share", "memory")],
        ({"smoothing": -0.1}, r"smoothing .* got -0\.1"),
        ({"hold": 1.1}, r"hold must lie in \[0, 1\], got 1\.1"),
        ({"hold": math.nan}, "hold .* got nan"),
        ({"spike": 0.9}, r"spike must be 1 or more, got 0\.9"),
        ({"spike": math.nan}, "spike .* got nan"),
        ({"minimum": 0.0}, r"minimum and maximum .* got 0\.0 and 1000000\.0"),
        ({"minimum": 2.0, "maximum": 1.0}, r"got 2\.0 and 1\.0"),
    ],
    ids=str,
)
def test_the_angle_rule_refuses_impossible_parameters(bad, message):
    with pytest.raises(InputError, match=message):
        AngleRule(**bad)
    AngleRule(share=0.0, smoothing=0.0, memory=0.0, hold=1.0, spike=1.0)


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


def test_a_spike_is_damped_in_the_gradients_that_come_back():
    memory, rule = Memory(), AngleRule(spike=1.0)
    for value in (1.0, 1.0, 10.0):
        scaled, _ = gradscaling_step([value], [value], lambda p: 0.0, memory=memory, rule=rule)
    assert memory.state.damping == pytest.approx(0.1)
    assert scaled == [memory.factor * 10.0] == [memory.state.factor * memory.state.damping * 10.0]


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


@pytest.mark.parametrize(("inner", "expected"), [(-1.0, 1e-4), (1.0, 1e4)])
def test_however_large_the_gain_the_multiplicative_rule_stays_within_its_bounds(
    inner: float, expected: float
) -> None:
    for factor in (1e-4, 1.0, 1e4):
        assert MultiplicativeRule(gain=1e6)(factor, inner, 1.0, 1.0) == expected
