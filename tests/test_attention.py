"""The attention weights: their formula, what they do not depend on, their limits, their errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.attention import attention_weights
from ngs.errors import InputError

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
# entries of a size at which neither squares nor their sums underflow
numbers = st.floats(0.01, 100.0).flatmap(lambda x: st.sampled_from([x, -x]))
pasts = st.integers(1, 6).flatmap(
    lambda m: st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=m, max_size=m)
)
scores = st.sampled_from(["cosine", "dot"])
temperatures = st.floats(0.05, 50.0)


def weights_of(past, **options):
    past = np.asarray(past, dtype=float)
    inner, squares = (past @ past[0]).tolist(), (past**2).sum(axis=1).tolist()
    return np.array(attention_weights(inner, squares, entries=past.shape[1], **options))


def by_definition(past, temperature, score):
    past = np.asarray(past, dtype=float)
    if score == "dot":
        s = [float(past[0] @ g) / math.sqrt(past.shape[1]) for g in past]
    else:
        s = [float(past[0] @ g) / (np.linalg.norm(past[0]) * np.linalg.norm(g)) for g in past]
    raised = [np.exp(np.longdouble(x - max(s)) / temperature) for x in s]
    return np.array([float(r / sum(raised)) for r in raised])


@PROPERTY
@given(past=pasts, temperature=temperatures, score=scores)
def test_the_weights_are_the_softmax_of_the_scores(past, temperature, score):
    found = weights_of(past, temperature=temperature, score=score)
    np.testing.assert_allclose(found, by_definition(past, temperature, score), rtol=0, atol=1e-10)


@PROPERTY
@given(past=pasts, temperature=temperatures, score=scores)
def test_the_weights_are_not_negative_and_sum_to_one(past, temperature, score):
    found = weights_of(past, temperature=temperature, score=score)
    assert (found >= 0.0).all()
    assert found.sum() == pytest.approx(1.0, abs=1e-12)


@PROPERTY
@given(past=pasts, temperature=temperatures, scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_cosine_sees_neither_the_scale_of_the_loss_nor_the_length_of_a_gradient(
    past, temperature, scale, seed
):
    lengths = np.random.default_rng(seed).uniform(0.1, 10.0, (len(past), 1))
    found = weights_of(scale * lengths * np.asarray(past), temperature=temperature)
    np.testing.assert_allclose(found, weights_of(past, temperature=temperature), atol=1e-10)


def test_dot_sees_the_scale_of_the_loss_as_a_temperature_divided_by_its_square():
    past = np.random.default_rng(0).normal(size=(4, 3))
    scaled = weights_of(3.0 * past, temperature=1.8, score="dot")
    np.testing.assert_allclose(scaled, weights_of(past, temperature=0.2, score="dot"), atol=1e-12)
    assert abs(scaled - weights_of(past, temperature=1.8, score="dot")).max() > 0.01


@PROPERTY
@given(past=pasts, temperature=temperatures, score=scores, seed=st.integers(0, 99))
def test_the_order_of_the_past_orders_the_weights_and_changes_nothing_else(
    past, temperature, score, seed
):
    order = [0, *(1 + np.random.default_rng(seed).permutation(len(past) - 1))]
    options = {"temperature": temperature, "score": score}
    found = weights_of(np.asarray(past)[order], **options)
    np.testing.assert_allclose(found, weights_of(past, **options)[order], atol=1e-12)


@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_an_infinite_temperature_weights_all_alike(score):
    past = np.random.default_rng(1).normal(size=(5, 3))
    assert weights_of(past, temperature=math.inf, score=score).tolist() == [0.2] * 5


@pytest.mark.parametrize("temperature", [1e-4, 1e-320])
def test_a_small_temperature_leaves_the_present_gradient_alone(temperature):
    past = np.random.default_rng(2).normal(size=(5, 3))
    assert weights_of(past, temperature=temperature).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_large_scores_do_not_overflow():
    assert attention_weights([1e300, -1e300], [1e300, 1e300], entries=1, score="dot") == [1.0, 0.0]


def test_a_zero_gradient_has_the_cosine_zero_with_everything():
    assert attention_weights([0.0, 0.0], [0.0, 4.0], entries=3) == [0.5, 0.5]
    one = math.e / (1.0 + math.e)
    assert attention_weights([4.0, 0.0], [4.0, 0.0], entries=3) == pytest.approx([one, 1.0 - one])


@pytest.mark.parametrize("square", [1e-300, 1e300])
def test_products_of_squares_neither_overflow_nor_underflow(square):
    found = attention_weights([square, -square], [square, square], entries=3)
    assert found[0] == pytest.approx(1.0 / (1.0 + math.exp(-2.0)))


def test_rounding_does_not_carry_a_cosine_beyond_one():
    found = attention_weights([1.0, 1.0 + 1e-9], [1.0, 1.0], entries=2, temperature=1e-12)
    assert found == [0.5, 0.5]
    found = attention_weights([1.0, -1.0 - 1e-3], [1.0, 1.0], entries=2, temperature=1.0)
    assert found[1] == pytest.approx(1.0 / (1.0 + math.exp(2.0)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_what_is_not_finite_shows_in_every_weight(bad, where, score):
    inner, squares = [1.0, 0.5, 0.2], [1.0, 1.0, 1.0]
    inner[where] = squares[where] = bad
    assert all(map(math.isnan, attention_weights(inner, squares, entries=2, score=score)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"temperature": -1.0}, r"got -1\.0"),
        ({"temperature": math.nan}, "got nan"),
        ({"score": "euclid"}, "score must be 'cosine' or 'dot', got 'euclid'"),
        ({"entries": 0}, "entries must be at least 1, got 0"),
        ({"inner": []}, "got 0 and 2"),
        ({"inner": [], "squares": []}, "got 0 and 0"),
        ({"squares": [1.0]}, "one length, 1 or more, got 2 and 1"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    arguments = {"inner": [1.0, 0.5], "squares": [1.0, 1.0], "entries": 2, **change}
    with pytest.raises(InputError, match=message):
        attention_weights(arguments.pop("inner"), arguments.pop("squares"), **arguments)
