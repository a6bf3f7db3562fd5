"""Claims about the detectors that need one number a step: robust spikes, and a level loss."""

import math
import random
import statistics

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ngs.train.anomalies import Plateau, RunningMedian, Window

NUMBERS = st.floats(-1e6, 1e6)


def filled(values: list[float], **settings: float) -> RunningMedian:
    found = RunningMedian(**settings)  # type: ignore[arg-type]
    for value in values:
        found.add(value)
    return found


def test_the_score_of_normal_values_is_in_their_standard_deviations() -> None:
    draws = random.Random(0)
    found = filled([draws.gauss(3.0, 0.5) for _ in range(20_001)], window=20_001, recent=20_001)
    assert found.score(3.0 + 4 * 0.5) == pytest.approx(4.0, rel=0.03)
    assert found.score(3.0 - 4 * 0.5) == pytest.approx(-4.0, rel=0.03)


def test_a_trend_hides_no_outlier() -> None:
    draws = random.Random(0)
    falling = [5.0 - 0.03 * step + draws.gauss(0.0, 0.1) for step in range(100)]
    assert filled(falling).score(falling[-1] + 1.5) > 6.0
    by_distance_from_median = 1.4826 * statistics.median(
        abs(x - statistics.median(falling)) for x in falling
    )
    assert 1.5 / by_distance_from_median < 2.0


def test_nothing_stands_out_before_there_is_enough_to_judge_by() -> None:
    found = RunningMedian(least=5)
    for _ in range(4):
        found.add(1.0)
        assert found.score(1e9) == 0.0
    found.add(1.0)
    assert found.score(1e9) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stands_out_at_any_time(value: float) -> None:
    assert RunningMedian().score(value) == math.inf


@given(st.lists(NUMBERS, min_size=21, max_size=60), st.floats(1e7, 1e300), NUMBERS)
def test_outliers_short_of_a_half_move_the_median_no_further_than_the_others_reach(
    values: list[float], outlier: float, probe: float
) -> None:
    few = (len(values) - 1) // 2
    found = filled(values + [outlier] * few, recent=150, window=150)
    assert min(values) <= found.median <= max(values)
    assert math.isfinite(found.median)


@given(st.lists(NUMBERS, min_size=20, max_size=60), NUMBERS, st.floats(0.1, 1e3))
def test_the_scale_is_never_below_the_floor(
    values: list[float], probe: float, floor: float
) -> None:
    found = filled(values, floor=floor)
    assert abs(found.score(probe)) <= abs(probe - found.median) / floor * (1 + 1e-12)


def test_the_window_forgets() -> None:
    found = filled([1.0] * 50 + [9.0] * 10, recent=10)
    assert found.median == 9.0


def test_a_level_loss_is_reported_once_in_so_many_steps() -> None:
    plateau = Plateau(steps=10)
    assert [plateau(2.3) for _ in range(30)] == ([False] * 9 + [True]) * 3


def test_a_falling_loss_is_no_plateau() -> None:
    plateau = Plateau(steps=10)
    assert not any(plateau(2.3 * 0.998**step) for step in range(100))


def test_a_level_loss_that_is_low_is_no_plateau() -> None:
    plateau = Plateau(steps=10)
    assert not plateau(2.3)
    assert not any(plateau(0.1) for _ in range(100))


def test_states_can_be_restored() -> None:
    found, other = filled([1.0, 2.0, 4.0] * 10, floor=0.5), RunningMedian()
    other.load_state_dict(found.state_dict())
    assert other.score(7.0) == found.score(7.0)
    plateau, second = Plateau(steps=3), Plateau(steps=3)
    plateau(1.0), plateau(1.0)
    second.load_state_dict(plateau.state_dict())
    assert second(1.0) is plateau(1.0) is True


@given(st.lists(NUMBERS, min_size=1, max_size=80), st.integers(1, 30))
def test_the_quick_median_is_the_median_of_the_last_values(values: list[float], size: int) -> None:
    window = Window(size)
    for number, value in enumerate(values, start=1):
        window.add(value)
        assert window.median == statistics.median(values[max(number - size, 0) : number])
    assert len(window) == min(len(values), size)
