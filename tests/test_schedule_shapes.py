"""Shapes of step size and momentum: straight, cosine, one after another, times, at most.

And the shape of the warm-up with half a cosine that training uses.
"""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.schedules import (
    Capped,
    Chain,
    Constant,
    Cosine,
    Linear,
    NesterovMomentum,
    OneCycle,
    Product,
    WarmupCosine,
)

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


def test_constant_is_the_same_at_every_step():
    assert {Constant(0.3)(t) for t in (0, 1, 10**9)} == {0.3}


values = st.floats(-100.0, 100.0)
lengths = st.integers(1, 400)


@PROPERTY
@given(values, values, lengths, st.integers(0, 10**6))
def test_linear_and_cosine_meet_both_ends_exactly_and_stay_at_the_last(first, last, steps, extra):
    for shape in (Linear(first, last, steps), Cosine(first, last, steps)):
        assert shape(0) == first
        assert shape(steps + extra) == last


@PROPERTY
@given(values, values, lengths, st.integers(0, 400))
def test_linear_is_the_line_in_fractions(first, last, steps, t):
    share = min(Fraction(t, steps), Fraction(1))
    exact = Fraction(first) + share * (Fraction(last) - Fraction(first))
    assert Linear(first, last, steps)(t) == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@PROPERTY
@given(values, values, lengths, st.integers(0, 400))
def test_cosine_is_the_formula_of_loshchilov_and_hutter(first, last, steps, t):
    done = min(t, steps)
    expected = last + 0.5 * (first - last) * (1.0 + math.cos(done / steps * math.pi))
    assert Cosine(first, last, steps)(t) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@PROPERTY
@given(st.floats(-10.0, 10.0), st.floats(0.1, 10.0), lengths)
def test_linear_and_cosine_never_turn_back(first, rise, steps):
    for shape in (Linear, Cosine):
        rising = [shape(first, first + rise, steps)(t) for t in range(steps + 2)]
        assert all(a <= b for a, b in pairwise(rising))


pieces = st.lists(
    st.tuples(
        st.one_of(
            st.builds(Constant, values),
            st.builds(Linear, values, values, lengths),
            st.builds(Cosine, values, values, lengths),
        ),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=5,
)


@PROPERTY
@given(pieces)
def test_chain_is_its_pieces_laid_end_to_end_and_its_last_one_goes_on(pieces):
    laid = [schedule(i) for schedule, steps in pieces for i in range(steps)]
    last, steps = pieces[-1]
    laid += [last(i) for i in range(steps, steps + 20)]
    chain = Chain(tuple(pieces))
    assert [chain(t) for t in range(len(laid))] == laid


@PROPERTY
@given(pieces, pieces)
def test_a_chain_of_chains_is_the_chain_of_all_their_pieces(some, others):
    length = sum(steps for _, steps in some)
    nested = Chain(((Chain(tuple(some)), length), (Chain(tuple(others)), 1)))
    flat = Chain((*some, *others))
    times = range(length + sum(steps for _, steps in others) + 20)
    assert [nested(t) for t in times] == [flat(t) for t in times]


def test_a_chain_takes_lists_and_keeps_tuples():
    chain = Chain([[Constant(0.1), 3], [Constant(0.2), 1]])
    assert chain.pieces == ((Constant(0.1), 3), (Constant(0.2), 1))
    assert hash(chain) == hash(Chain(((Constant(0.1), 3), (Constant(0.2), 1))))


@PROPERTY
@given(values, values, st.floats(-100.0, 100.0), lengths, st.integers(0, 400))
def test_product_and_capped_work_step_by_step(first, last, other, steps, t):
    linear, cosine = Linear(first, last, steps), Cosine(last, first, steps)
    assert Product(linear, cosine)(t) == linear(t) * cosine(t)
    assert Capped(linear, other)(t) == (linear(t) if linear(t) < other else other)


def test_the_schedules_of_the_paper_can_be_put_together_from_shapes():
    capped = Capped(NesterovMomentum(), 0.9)
    assert [capped(t) for t in (0, 5, 1000)] == [0.0, NesterovMomentum()(5), 0.9]
    assert Product(Linear(0.0, 1.0, steps=4), Constant(0.5))(1) == 0.125


# --- the shape of the warm-up with half a cosine --------------------------------------------------


@st.composite
def warmup_cosines(draw) -> WarmupCosine:
    total = draw(st.integers(1, 400))
    warmup = draw(st.integers(0, total))
    return WarmupCosine(draw(st.floats(1e-6, 1e3)), total, warmup)


@PROPERTY
@given(warmup_cosines())
def test_warmup_rises_linearly_to_the_peak(schedule):
    for t in range(schedule.warmup):
        assert schedule(t) == pytest.approx(
            schedule.peak * (t + 1) / schedule.warmup, rel=1e-12, abs=0.0
        )
    if schedule.warmup:
        assert schedule(schedule.warmup - 1) == pytest.approx(schedule.peak, rel=1e-12, abs=0.0)


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


@PROPERTY
@given(warmup_cosines())
def test_warmup_cosine_is_a_line_read_one_step_ahead_and_then_a_cosine(schedule):
    """The warm-up begins above zero: its step t is step t + 1 of the line from zero."""
    peak, warmup, rest = schedule.peak, schedule.warmup, schedule.total - schedule.warmup
    line = Linear(0.0, peak, steps=max(warmup, 1))
    fall = Cosine(peak, 0.0, steps=rest) if rest else Constant(0.0)
    chain = Chain((*([(lambda t: line(t + 1), warmup)] if warmup else []), (fall, max(rest, 1))))
    times = range(schedule.total + 5)
    assert [schedule(t) for t in times] == pytest.approx(
        [chain(t) for t in times], rel=1e-12, abs=1e-12 * peak
    )


# --- one cycle ------------------------------------------------------------------------------------


def torchs_one_cycle(total: int, rise: float) -> list[tuple[float, float]]:
    """Learning rate and momentum that torch's scheduler writes for each step."""
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=total, pct_start=rise
    )
    found = []
    for t in range(total):
        (group,) = optimizer.param_groups
        found.append((group["lr"], group["momentum"]))
        optimizer.step()
        if t + 1 < total:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("total", "rise"),
    [(4, 0.3), (2, 0.75), (3, 0.4), (11, 6 / 11), (10, 0.3), (100, 0.3), (97, 0.5), (60, 0.99)],
)
def test_one_cycle_is_the_sequence_of_torchs_scheduler(total, rise):
    lr = OneCycle(0.4 / 25, 0.4, 0.4 / 25e4, total, rise)
    momentum = OneCycle(0.95, 0.85, 0.95, total, rise)
    expected = torchs_one_cycle(total, rise)
    assert [lr(t) for t in range(total)] == pytest.approx([x for x, _ in expected], rel=1e-12)
    assert [momentum(t) for t in range(total)] == pytest.approx([x for _, x in expected], rel=1e-12)


@PROPERTY
@given(values, values, values, st.integers(2, 400), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_one_cycle_goes_from_first_past_middle_to_last_and_stays(
    first, middle, last, total, rise, extra
):
    if not 1.0 < rise * total < total:
        with pytest.raises(InputError, match=r"rise must lie above 1/total = .* and below 1, got"):
            OneCycle(first, middle, last, total, rise)
        return
    cycle = OneCycle(first, middle, last, total, rise)
    assert cycle(0) == pytest.approx(first, rel=1e-12, abs=1e-12)
    assert cycle(total - 1 + extra) == pytest.approx(last, rel=1e-12, abs=1e-12)
    turn = rise * total - 1.0
    path = [cycle(t) for t in range(total)]
    up = [x for t, x in enumerate(path) if t <= turn]
    down = [x for t, x in enumerate(path) if t > turn]
    for part, (start, stop) in ((up, (first, middle)), (down, (middle, last))):
        signs = [(b - a) * (stop - start) for a, b in pairwise(part)]
        assert all(sign >= -1e-9 for sign in signs)


@pytest.mark.parametrize(
    ("total", "rise", "message"),
    [
        (1, 0.3, "total must be 2 steps or more, got 1"),
        (0, 0.3, "total must be 2 steps or more, got 0"),
        (3, 0.3, "rise must lie above 1/total = 0.333 and below 1, got 0.3"),
        (2, 0.5, "rise must lie above 1/total = 0.5 and below 1, got 0.5"),  # torch divides by 0
        (10, 1.0, "rise must lie above 1/total = 0.1 and below 1, got 1.0"),
        (10, -0.3, "rise must lie above 1/total = 0.1 and below 1, got -0.3"),
        (10, math.nan, "rise must lie above 1/total = 0.1 and below 1, got nan"),
    ],
)
def test_one_cycle_refuses_a_phase_without_a_step(total, rise, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        OneCycle(0.1, 1.0, 0.0, total, rise)
