"""The loop: why it stops, what its history holds, that it follows schedules by index, what it
refuses, and that the classical rates hold on random quadratics.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.methods import METHODS, fista, gradient_descent, heavy_ball, nesterov, start
from ngs.minimize import DIVERGED, Restart, Stop, minimize
from ngs.problems import Problem, log_sum_exp, quadratic, worst_function
from ngs.schedules import (
    Constant,
    NesterovMomentum,
    SimplifiedMomentum,
    StronglyConvexMomentum,
    coefficients_at,
    nesterov_lambda,
)

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
BOWL = quadratic([1.0, 4.0], minimizer=[1.0, -1.0])
FAR = np.array([5.0, 3.0])

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


SEVERAL = {
    "ogm": (0.5, 0.25),
    "triple_momentum": (0.5, 0.25, 0.125),
    "three_sequences": (0.5, 0.25, 1.5),
}
"""Constant coefficients for the methods that take more than the momentum."""


def momentum_for(method, value):
    if not method.coefficients:
        return {}
    return {"momentum": SEVERAL.get(method.name, value)}


@every_method
def test_a_run_stops_before_the_first_step_whose_gradient_is_within_the_tolerance(method):
    run = minimize(method, BOWL, FAR, lr=0.2, **momentum_for(method, 0.5), tolerance=1e-3)
    assert run.stop is Stop.TOLERANCE
    assert 0 < run.steps < 1000
    assert (run.grad_norms > 1e-3).all()
    assert f"step {run.steps} " in run.message
    assert "0.001" in run.message
    longer = minimize(method, BOWL, FAR, lr=0.2, **momentum_for(method, 0.5), steps=run.steps + 1)
    assert longer.grad_norms[-1] <= 1e-3
    np.testing.assert_array_equal(longer.iterates[:-1], run.iterates)


def test_a_start_at_the_minimizer_takes_no_step():
    run = minimize(nesterov, BOWL, BOWL.minimizer, lr=0.2, momentum=0.5)
    assert (run.stop, run.steps) == (Stop.TOLERANCE, 0)
    np.testing.assert_array_equal(run.theta, BOWL.minimizer)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_run_spends_its_budget_and_no_more(steps):
    run = minimize(nesterov, BOWL, FAR, lr=0.01, momentum=0.5, steps=steps)
    assert run.stop is Stop.BUDGET
    assert run.steps == steps
    assert f"budget of {steps} steps" in run.message


@pytest.mark.parametrize(
    ("method", "momentum", "advice"),
    [
        (gradient_descent, 0.0, "lower lr (it was 1.5; 2/L = 0.5)"),
        (heavy_ball, 0.25, "lower lr (it was 1.5; 2/L = 0.5) or momentum (it was 0.25)"),
        (nesterov, 0.25, "lower lr (it was 1.5; 2/L = 0.5) or momentum (it was 0.25)"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_divergence_names_the_step_and_what_to_lower(method, momentum, advice):
    run = minimize(method, BOWL, FAR, lr=1.5, momentum=momentum)
    assert run.stop is Stop.DIVERGENCE
    assert run.message == f"diverged at step {run.steps - 1}: {advice}"
    assert run.gaps[-1] > DIVERGED * run.gaps[0]
    assert (run.gaps[:-1] <= DIVERGED * run.gaps[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_or_infinite_counts_as_divergence(value):
    cliff = replace(BOWL, value=lambda theta: 1.0 if theta[0] > 3.0 else value)
    run = minimize(gradient_descent, cliff, FAR, lr=0.2, steps=50)
    assert run.stop is Stop.DIVERGENCE
    assert run.iterates[-2][0] > 3.0 >= run.theta[0]


@pytest.mark.parametrize("dimension", [9, 20, 38])
def test_rounding_around_the_minimum_is_no_divergence(dimension):
    problem = worst_function(dimension)
    for seed in range(20):
        noise = 1e-9 * np.random.default_rng(seed).normal(size=dimension)
        run = minimize(gradient_descent, problem, problem.minimizer + noise, lr=1.0, steps=50)
        assert run.stop is not Stop.DIVERGENCE


def test_a_start_at_the_minimum_does_not_hide_a_true_divergence():
    problem = worst_function(9)
    noise = 1e-9 * np.random.default_rng(0).normal(size=9)
    run = minimize(gradient_descent, problem, problem.minimizer + noise, lr=5.0)
    assert run.stop is Stop.DIVERGENCE


@every_method
@pytest.mark.parametrize("steps", [0, 1, 12])
def test_history_has_the_promised_shapes(method, steps):
    run = minimize(
        method, worst_function(3), np.ones(3), lr=0.1, **momentum_for(method, 0.5), steps=steps
    )
    assert run.iterates.shape == (steps + 1, 3)
    assert run.gradient_points.shape == (steps, 3)
    assert run.gaps.shape == (steps + 1,)
    assert run.grad_norms.shape == (steps,)
    assert run.iterates.dtype == run.gradient_points.dtype == np.float64


@every_method
def test_history_holds_what_the_method_does_by_hand(method):
    momentum = momentum_for(method, 0.5)
    run = minimize(method, BOWL, FAR, lr=0.15, **momentum, steps=30)
    betas = coefficients_at(method, momentum.get("momentum", 0.0), 0)
    state, theta = method.start(FAR), FAR
    for t in range(30):
        np.testing.assert_array_equal(run.iterates[t], theta)
        assert run.values[t] == BOWL.value(theta)
        assert run.gaps[t] == BOWL.value(theta) - BOWL.minimum
        point = method.gradient_point(state, *betas)
        np.testing.assert_array_equal(run.gradient_points[t], point)
        assert run.grad_norms[t] == np.linalg.norm(BOWL.grad(point))
        state = method.step(state, BOWL.grad(point), 0.15, *betas)
        theta = method.iterate(state, *betas)
    np.testing.assert_array_equal(run.theta, theta)
    np.testing.assert_array_equal(run.theta, run.iterates[-1])
    assert run.restarts == ()


def test_gaps_are_measured_from_the_minimum_of_the_problem():
    problem = worst_function(5)
    run = minimize(gradient_descent, problem, problem.minimizer, lr=0.1, steps=0)
    assert run.gaps[0] == pytest.approx(0.0, abs=1e-15)
    assert problem.minimum < -0.1


def test_the_callers_array_is_not_changed_and_may_be_a_list():
    theta = FAR.copy()
    by_array = minimize(nesterov, BOWL, theta, lr=0.1, momentum=0.5, steps=5)
    by_list = minimize(nesterov, BOWL, [5, 3], lr=0.1, momentum=0.5, steps=5)
    np.testing.assert_array_equal(theta, FAR)
    theta += 1.0
    np.testing.assert_array_equal(by_array.iterates, by_list.iterates)


def test_schedules_are_asked_for_each_step_by_its_index():
    asked: list[int] = []

    def lr(t: int) -> float:
        asked.append(t)
        return 0.1 / (t + 1)

    run = minimize(nesterov, BOWL, FAR, lr=lr, momentum=NesterovMomentum(), steps=9)
    assert asked == list(range(9))
    state = start(FAR)
    for t in range(9):
        beta = NesterovMomentum()(t)
        grad = BOWL.grad(nesterov.gradient_point(state, beta))
        state = nesterov.step(state, grad, 0.1 / (t + 1), beta)
    np.testing.assert_array_equal(run.theta, state.theta)


def test_a_next_momentum_is_read_from_the_schedule_one_step_ahead():
    asked: list[int] = []

    def momentum(t: int) -> float:
        asked.append(t)
        return 0.1 * (t % 7)

    run = minimize(fista, BOWL, FAR, lr=0.1, momentum=momentum, steps=5)
    assert asked == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    same = minimize(nesterov, BOWL, FAR, lr=0.1, momentum=momentum, steps=5)
    np.testing.assert_allclose(run.iterates, same.iterates, rtol=1e-14)
    np.testing.assert_allclose(run.gradient_points, same.gradient_points, rtol=1e-14)


def test_a_number_and_a_constant_schedule_are_the_same():
    by_number = minimize(nesterov, BOWL, FAR, lr=0.1, momentum=0.5, steps=20)
    by_schedule = minimize(nesterov, BOWL, FAR, lr=Constant(0.1), momentum=Constant(0.5), steps=20)
    np.testing.assert_array_equal(by_number.iterates, by_schedule.iterates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": [1.0]}, r"theta must have shape \(2,\), got \(1,\)"),
        ({"theta": 1.0}, r"got \(\)"),
        ({"theta": [1.0, np.nan]}, "theta must be finite, got .*nan"),
        ({"theta": [np.inf, 1.0]}, "theta must be finite, got .*inf"),
        ({"lr": -0.1}, "lr must be finite and at least 0, got -0.1 at step 0"),
        ({"lr": np.nan}, "got nan at step 0"),
        ({"lr": np.inf}, "got inf at step 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0 at step 0"),
        ({"momentum": -0.5}, "got -0.5 at step 0"),
        ({"momentum": np.nan}, "got nan at step 0"),
        ({"lr": lambda t: 0.1 if t < 3 else -2.0}, "got -2.0 at step 3"),
        ({"momentum": lambda t: 0.9 + 0.05 * t}, "got 1.0 at step 2"),
        ({"steps": -1}, "steps must be 0 or more, got -1"),
        ({"tolerance": -1e-6}, "tolerance must be at least 0, got -1e-06"),
        ({"tolerance": np.nan}, "got nan"),
        ({"target": -1.0}, r"target must be at least 0, got -1\.0"),
        ({"target": np.nan}, "target must be at least 0, got nan"),
        ({"restart": "sometimes"}, "restart must be 'function' or 'gradient', got 'sometimes'"),
        ({"momentum": (0.5, 0.5)}, r"nesterov takes momentum, 1 number\(s\) a step, got 2"),
    ],
)
def test_a_bad_input_is_refused_with_what_was_given(change, message):
    arguments = {"theta": FAR, "lr": 0.1, "momentum": 0.5} | change
    with pytest.raises(InputError, match=message):
        minimize(nesterov, BOWL, **arguments)


@pytest.mark.parametrize("momentum", [0.9, NesterovMomentum()], ids=repr)
def test_gradient_descent_refuses_momentum(momentum):
    with pytest.raises(InputError, match=r"gradient_descent has no momentum: leave it out, got"):
        minimize(gradient_descent, BOWL, FAR, lr=0.1, momentum=momentum)


@pytest.mark.parametrize("name", ["ogm", "triple_momentum", "three_sequences"])
def test_a_method_of_several_coefficients_refuses_a_single_number(name):
    method = METHODS[name]
    with pytest.raises(InputError, match=f"{name} takes {method.coefficients[0]} and .* got 1"):
        minimize(method, BOWL, FAR, lr=0.1, momentum=0.5)


def test_a_coefficient_that_is_no_number_is_refused_by_its_name():
    with pytest.raises(InputError, match="peek must be finite, got nan at step 0"):
        minimize(METHODS["triple_momentum"], BOWL, FAR, lr=0.1, momentum=(0.5, np.nan, 0.1))


# --- target, unknown minimum --------------------------------------------------------------------


def test_a_run_stops_after_the_first_step_within_the_target():
    run = minimize(nesterov, BOWL, FAR, lr=0.2, momentum=0.5, target=1e-3)
    assert run.stop is Stop.TARGET
    assert run.gaps[-1] <= 1e-3
    assert (run.gaps[:-1] > 1e-3).all()
    assert f"step {run.steps - 1}" in run.message
    assert "0.001" in run.message


def test_a_target_is_a_gap_and_not_a_value():
    problem = worst_function(5)
    run = minimize(gradient_descent, problem, np.zeros(5), lr=1.0, target=1e-2)
    assert run.stop is Stop.TARGET
    assert run.steps > 0
    assert problem.value(run.theta) < 0.0 < run.gaps[-1] <= 1e-2 < run.gaps[-2]


def test_where_the_minimum_is_unknown_values_are_kept_and_gaps_and_target_refused():
    unknown = replace(BOWL, minimum=None, minimizer=None, L=None)
    run = minimize(nesterov, unknown, FAR, lr=0.1, momentum=0.5, steps=5)
    known = minimize(nesterov, BOWL, FAR, lr=0.1, momentum=0.5, steps=5)
    np.testing.assert_array_equal(run.values, known.values)
    with pytest.raises(InputError, match="minimum of this problem is unknown"):
        _ = run.gaps
    with pytest.raises(InputError, match="unknown: leave target out"):
        minimize(nesterov, unknown, FAR, lr=0.1, momentum=0.5, target=1e-3)


def test_where_the_minimum_is_unknown_a_divergence_is_seen_all_the_same():
    unknown = replace(BOWL, minimum=None, minimizer=None, L=None)
    run = minimize(nesterov, unknown, FAR, lr=1.5, momentum=0.25)
    assert run.stop is Stop.DIVERGENCE
    assert run.message.endswith("lower lr (it was 1.5) or momentum (it was 0.25)")


def test_where_the_minimum_is_unknown_a_start_at_value_zero_is_no_divergence():
    # It starts at a value of 0 up to rounding, falls below, and swings above it again.
    level = np.log(2.0 * np.cosh(1.0))
    valley = log_sum_exp([[1.0], [-1.0]], [level, level], temperature=1.0)
    run = minimize(heavy_ball, valley, [1.0], lr=1.0, momentum=0.95, steps=100)
    assert abs(run.values[0]) < 1e-15
    assert run.values.max() > 1e-3
    assert run.stop is Stop.BUDGET


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_the_minimum_is_unknown_a_first_step_off_the_map_is_a_divergence(value):
    cliff = replace(BOWL, value=lambda theta: 1.0 if theta[0] > 4.9 else value, minimum=None)
    run = minimize(gradient_descent, cliff, FAR, lr=0.2, steps=50)
    assert (run.stop, run.steps) == (Stop.DIVERGENCE, 1)


def test_a_divergence_to_infinity_warns_of_nothing(recwarn):
    steep = replace(
        BOWL,
        value=lambda theta: float(np.sum(np.exp(theta**2))),
        grad=lambda theta: 2.0 * theta * np.exp(theta**2),
    )
    run = minimize(gradient_descent, steep, FAR, lr=10.0)
    assert run.stop is Stop.DIVERGENCE
    assert not recwarn.list


# --- restart ------------------------------------------------------------------------------------

NARROW = quadratic(np.geomspace(1.0, 1e-3, 20), rotation_seed=3)
AWAY = NARROW.minimizer + np.random.default_rng(0).normal(size=20)


def restarted_by_hand(scheme: str, steps: int) -> tuple[list[np.ndarray], list[int]]:
    """Nesterov's method with restart in plain NumPy, from the definition."""
    theta, velocity, clock = AWAY, np.zeros(20), 0
    iterates, restarts = [theta], []
    for t in range(steps):
        beta = NesterovMomentum()(clock)
        grad = NARROW.grad(theta + beta * velocity)
        old, velocity = theta, beta * velocity - grad
        theta, clock = theta + velocity, clock + 1
        iterates.append(theta)
        rose = NARROW.value(theta) > NARROW.value(old)
        uphill = grad @ velocity > 0.0
        if rose if scheme == "function" else uphill:
            velocity, clock = np.zeros(20), 0
            restarts.append(t)
    return iterates, restarts


@pytest.mark.parametrize("scheme", ["function", "gradient"])
@pytest.mark.parametrize("form", ["nesterov", "nesterov_stored", "fista"])
def test_restart_is_what_its_definition_says_in_every_form(scheme, form):
    run = minimize(
        METHODS[form],
        NARROW,
        AWAY,
        lr=1.0,
        momentum=NesterovMomentum(),
        steps=400,
        restart=scheme,
    )
    iterates, restarts = restarted_by_hand(scheme, 400)
    assert run.restarts == tuple(restarts)
    assert len(restarts) >= 2
    np.testing.assert_allclose(run.iterates, iterates, atol=1e-12)


def test_the_two_schemes_restart_at_different_steps_somewhere():
    assert restarted_by_hand("function", 400)[1] != restarted_by_hand("gradient", 400)[1]


@pytest.mark.parametrize("scheme", list(Restart))
def test_restart_turns_a_sublinear_rate_into_a_linear_one(scheme):
    plain = minimize(nesterov, NARROW, AWAY, lr=1.0, momentum=NesterovMomentum(), steps=1000)
    run = minimize(
        nesterov, NARROW, AWAY, lr=1.0, momentum=NesterovMomentum(), steps=1000, restart=scheme
    )
    assert plain.restarts == ()
    assert run.gaps[-1] < 1e-4 * plain.gaps[-1]


def test_restart_leaves_the_clock_of_the_step_size_alone():
    asked: list[int] = []

    def lr(t: int) -> float:
        asked.append(t)
        return 1.0

    run = minimize(
        nesterov,
        NARROW,
        AWAY,
        lr=lr,
        momentum=NesterovMomentum(),
        steps=300,
        restart="gradient",
    )
    assert run.restarts
    assert asked == list(range(300))


def test_a_restart_is_refused_where_there_is_no_velocity():
    with pytest.raises(InputError, match="gradient_descent has no velocity to throw away"):
        minimize(gradient_descent, BOWL, FAR, lr=0.1, restart="gradient")


# --- progress -----------------------------------------------------------------------------------


def test_a_progress_bar_is_shown_when_asked_for(capsys):
    minimize(nesterov, BOWL, FAR, lr=0.1, momentum=0.5, steps=7, progress=True)
    assert "7/7" in capsys.readouterr().err


@pytest.mark.parametrize("progress", [False, None])
def test_no_progress_bar_is_shown_where_nobody_looks(capsys, progress):
    minimize(nesterov, BOWL, FAR, lr=0.1, momentum=0.5, steps=7, progress=progress)
    assert capsys.readouterr().err == ""


@st.composite
def quadratics_with_a_start(draw, least=0.0) -> tuple[Problem, np.ndarray, float]:
    """A random quadratic, a random start and its distance R to the minimiser."""
    dimension = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    top = 10.0 ** draw(st.floats(-3.0, 3.0))
    # Eigenvalues spread over up to eight decades: rates are hard to meet where curvature is small.
    spectrum = top * np.maximum(10.0 ** rng.uniform(-8.0, 0.0, size=dimension), least)
    spectrum[0] = top
    center = rng.normal(size=dimension)
    problem = quadratic(spectrum, minimizer=center, rotation_seed=draw(st.integers(0, 100)))
    theta = center + rng.normal(size=dimension) * 10.0 ** draw(st.floats(-2.0, 2.0))
    return problem, theta, float(np.linalg.norm(theta - center))


def assert_within(gaps: np.ndarray, bounds: np.ndarray) -> None:
    """Compare with room for rounding: relative to the bound, and to the first bound's size."""
    assert (gaps <= bounds * (1.0 + 1e-9) + 1e-13 * bounds[0]).all()


@PROPERTY
@given(quadratics_with_a_start())
def test_gradient_descent_keeps_its_rate(case):
    problem, theta, R = case
    gaps = minimize(gradient_descent, problem, theta, lr=1.0 / problem.L, steps=60).gaps
    k = np.arange(len(gaps))
    assert_within(gaps, problem.L * R**2 / (4.0 * k + 2.0))


@PROPERTY
@given(quadratics_with_a_start())
def test_nesterov_keeps_its_rate_under_nesterovs_sequence(case):
    problem, theta, R = case
    run = minimize(
        nesterov, problem, theta, lr=1.0 / problem.L, momentum=NesterovMomentum(), steps=60
    )
    lam = np.array([nesterov_lambda(k) for k in range(1, len(run.gaps))])
    bounds = problem.L * R**2 / (2.0 * lam**2)
    assert_within(run.gaps[1:], bounds)
    assert (bounds <= 2.0 * problem.L * R**2 / np.arange(2, len(lam) + 2) ** 2).all()


@PROPERTY
@given(quadratics_with_a_start())
def test_nesterov_keeps_its_rate_under_the_simplified_sequence(case):
    problem, theta, R = case
    run = minimize(
        nesterov, problem, theta, lr=1.0 / problem.L, momentum=SimplifiedMomentum(), steps=60
    )
    k = np.arange(1, len(run.gaps))
    assert_within(run.gaps[1:], 2.0 * problem.L * R**2 / (k**2 + 5 * k + 6))


@PROPERTY
@given(quadratics_with_a_start(least=1e-5))
def test_nesterov_keeps_its_linear_rate_when_strongly_convex(case):
    problem, theta, R = case
    run = minimize(
        nesterov,
        problem,
        theta,
        lr=1.0 / problem.L,
        momentum=StronglyConvexMomentum(problem.kappa),
        steps=100,
    )
    k = np.arange(len(run.gaps))
    rate = 1.0 - 1.0 / np.sqrt(problem.kappa)
    assert_within(run.gaps, rate**k * 0.5 * (problem.L + problem.mu) * R**2)


def test_the_rate_of_gradient_descent_is_not_kept_by_a_slower_one():
    # The bound is tight enough on this line for a tenth of the step size to break it.
    problem = quadratic([1.0])
    run = minimize(gradient_descent, problem, [1.0], lr=0.1, steps=20)
    assert run.gaps[20] < 1.0 / (4 * 20 + 2)
    assert run.gaps[5] > 1.0 / (4 * 5 + 2)
