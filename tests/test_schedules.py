"""Schedules: Nesterov's sequence by its recurrence, the shape of the warm-up with half a cosine,
and that each schedule prints, compares, pickles and refuses what it cannot use.
"""

import math
import pickle
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.schedules import (
    Constant,
    NesterovMomentum,
    StronglyConvexMomentum,
    WarmupCosine,
    nesterov_lambda,
)

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)

SCHEDULES = [
    Constant(0.9),
    NesterovMomentum(),
    StronglyConvexMomentum(50.0),
    WarmupCosine(0.1, total=20, warmup=5),
]


@st.composite
def warmup_cosines(draw) -> WarmupCosine:
    total = draw(st.integers(1, 400))
    warmup = draw(st.integers(0, total))
    return WarmupCosine(draw(st.floats(1e-6, 1e3)), total, warmup)


def test_constant_is_the_same_at_every_step():
    assert {Constant(0.3)(t) for t in (0, 1, 10**9)} == {0.3}


def test_lambda_starts_at_one_and_obeys_its_recurrence():
    assert nesterov_lambda(1) == 1.0
    for k in range(1, 300):
        # lambda_{k+1}^2 - lambda_{k+1} = lambda_k^2, the form the proof of the rate uses
        new = nesterov_lambda(k + 1)
        assert new > nesterov_lambda(k)
        assert new * (new - 1.0) == pytest.approx(nesterov_lambda(k) ** 2, rel=1e-12)


def test_lambda_grows_at_least_as_half_of_k_plus_one():
    assert all(nesterov_lambda(k) >= (k + 1) / 2 for k in range(1, 2000))


def test_nesterov_momentum_is_the_quotient_of_the_recurrence_computed_afresh():
    lam = [float("nan"), 1.0]
    while len(lam) < 103:
        lam.append((1.0 + math.sqrt(1.0 + 4.0 * lam[-1] ** 2)) / 2.0)
    schedule = NesterovMomentum()
    assert schedule(0) == 0.0
    for t in range(1, 101):
        assert schedule(t) == pytest.approx((lam[t] - 1.0) / lam[t + 1], rel=1e-13)


def test_nesterov_momentum_does_not_depend_on_the_order_of_the_questions():
    late_first = [NesterovMomentum()(t) for t in (500, 3, 499, 1)]
    assert late_first == [NesterovMomentum()(t) for t in (500, 3, 499, 1)]
    assert late_first[1] < late_first[2] < late_first[0]


def test_nesterov_momentum_rises_from_zero_towards_one():
    values = [NesterovMomentum()(t) for t in range(1000)]
    assert values[:2] == [0.0, 0.0]
    assert all(a < b for a, b in pairwise(values[1:]))
    assert 1.0 - 4.0 / 1000 < values[-1] < 1.0


@PROPERTY
@given(st.floats(1.0, 1e12))
def test_strongly_convex_momentum_solves_for_the_root_of_kappa(kappa):
    beta = StronglyConvexMomentum(kappa)(0)
    assert 0.0 <= beta < 1.0
    assert (1.0 + beta) / (1.0 - beta) == pytest.approx(math.sqrt(kappa), rel=1e-8)


def test_strongly_convex_momentum_is_the_same_at_every_step():
    schedule = StronglyConvexMomentum(9.0)
    assert [schedule(t) for t in (0, 1, 1000)] == [0.5] * 3


@PROPERTY
@given(warmup_cosines())
def test_warmup_rises_linearly_to_the_peak(schedule):
    for t in range(schedule.warmup):
        assert schedule(t) == pytest.approx(schedule.peak * (t + 1) / schedule.warmup, rel=1e-12)
    if schedule.warmup:
        assert schedule(schedule.warmup - 1) == pytest.approx(schedule.peak, rel=1e-12)


@PROPERTY
@given(warmup_cosines())
def test_cosine_falls_from_the_peak_and_is_above_zero_until_the_total(schedule):
    falling = [schedule(t) for t in range(schedule.warmup, schedule.total)]
    if falling:
        assert falling[0] == schedule.peak
    assert all(a > b for a, b in pairwise(falling))
    assert all(0.0 < value <= schedule.peak for value in falling)


@PROPERTY
@given(warmup_cosines())
def test_cosine_is_symmetric_about_half_the_peak(schedule):
    length = schedule.total - schedule.warmup
    for i in range(1, length):
        pair = schedule(schedule.warmup + i) + schedule(schedule.total - i)
        assert pair == pytest.approx(schedule.peak, rel=1e-9)


@PROPERTY
@given(warmup_cosines(), st.integers(0, 10**6))
def test_warmup_cosine_is_zero_from_the_total_on(schedule, extra):
    assert schedule(schedule.total + extra) == 0.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_pickles_to_an_equal_one(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert repr(copy) == repr(schedule)
    assert [copy(t) for t in range(30)] == [schedule(t) for t in range(30)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_prints_as_the_call_that_makes_it(schedule):
    assert eval(repr(schedule)) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nesterov_lambda(0), "k must be 1 or more, got 0"),
        (lambda: NesterovMomentum()(-1), "got -1"),
        (lambda: StronglyConvexMomentum(0.5), "got 0.5"),
        (lambda: StronglyConvexMomentum(math.nan), "got nan"),
        (lambda: StronglyConvexMomentum(math.inf), "got inf"),
        (lambda: WarmupCosine(0.1, total=0), "total must be 1 step or more, got 0"),
        (lambda: WarmupCosine(0.1, total=-3), "got -3"),
        (lambda: WarmupCosine(0.1, total=10, warmup=11), r"0 \.\. total = 10, got 11"),
        (lambda: WarmupCosine(0.1, total=10, warmup=-1), "got -1"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_and_value(make, message):
    with pytest.raises(InputError, match=message):
        make()
