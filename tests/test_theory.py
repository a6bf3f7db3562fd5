"""The bounds of `ngs.theory`: against certificates, against runs on random problems, and against
the lower bound.
"""

import math
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs import methods, theory
from ngs.errors import InputError
from ngs.methods import METHODS
from ngs.minimize import minimize
from ngs.problems import (
    Problem,
    lessard_counterexample,
    quadratic,
    random_log_sum_exp,
    worst_function,
)
from ngs.schedules import (
    ChambolleDossalMomentum,
    ConvexAnchor,
    NesterovMomentum,
    OptimizedMomentum,
    SimplifiedMomentum,
    StronglyConvexAnchor,
    StronglyConvexMomentum,
    TripleMomentum,
    coefficients_at,
)
from ngs.theory import RATES, certify, certify_rate

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
STEPS = (1, 5, 10)
MU = 0.1

every_rate = pytest.mark.parametrize("name", RATES)
every_convex_rate = pytest.mark.parametrize(
    "name", [name for name, rate in RATES.items() if not rate.strongly_convex]
)
every_strong_rate = pytest.mark.parametrize(
    "name", [name for name, rate in RATES.items() if rate.strongly_convex]
)


def mu_for(name: str) -> float:
    return MU if RATES[name].strongly_convex else 0.0


# --- certificates -------------------------------------------------------------------------------


@every_rate
@pytest.mark.parametrize("k", STEPS)
def test_certificates_equal_a_tight_bound_and_stay_below_any_other(name, k):
    rate, mu = RATES[name], mu_for(name)
    computed, proved = certify_rate(name, k, mu=mu)
    assert computed <= rate.bound(k, 1.0, mu, 1.0) * (1.0 + 1e-3)
    assert proved <= rate.bound(k, 1.0, mu, 1.0)  # another theorem may know better
    if rate.tight:
        assert computed == pytest.approx(rate.bound(k, 1.0, mu, 1.0), rel=1e-3)


@every_rate
def test_a_bound_that_is_not_called_tight_is_not(name):
    rate, mu = RATES[name], mu_for(name)
    if not rate.tight:
        assert certify_rate(name, 10, mu=mu).computed < 0.99 * rate.bound(10, 1.0, mu, 1.0)


# Exact worst cases computed once by performance estimation; they pin the index of the schedule.
@pytest.mark.parametrize(
    ("momentum", "worst"),
    [
        (NesterovMomentum(), (0.16667, 0.03489, 0.01234)),
        (SimplifiedMomentum(), (0.16667, 0.03571, 0.01282)),
        (lambda t: t / (t + 3), (0.16667, 0.03125, 0.011494)),
    ],
    ids=["lambda", "simplified", "shifted"],
)
def test_worst_cases_of_nesterov_show_the_index_of_its_schedule(momentum, worst):
    for k, expected in zip(STEPS, worst, strict=True):
        found = certify(methods.nesterov, k, momentum=momentum).computed
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 10, 15])
def test_the_shifted_index_meets_its_conjecture_wherever_it_was_computed(k):
    found = certify(methods.nesterov, k, momentum=lambda t: t / (t + 3))
    assert found.computed == pytest.approx(theory.shifted_conjecture(k), rel=1e-3)
    assert found.proved is None or k == 1  # nobody has proved it; at one step it is a descent step


def test_heavy_ball_with_the_same_coefficients_breaks_the_bound():
    found = certify(methods.heavy_ball, 10, momentum=NesterovMomentum())
    assert found.computed > theory.nesterov_bound(10)
    assert found.proved is None


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_certified(name):
    method = METHODS[name]
    momentum = {
        (): 0.0,
        ("momentum", "correction"): OptimizedMomentum(3),
        ("momentum", "peek", "output"): TripleMomentum(10.0),
        ("mixing", "pull", "stride"): StronglyConvexAnchor(10.0),
    }.get(method.coefficients, StronglyConvexMomentum(10.0))
    found = certify(method, 3, momentum=momentum, mu=MU)
    assert 0.0 < found.computed < 10.0


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("momentum", [NesterovMomentum(), 0.5], ids=["lambda", "constant"])
def test_equal_forms_have_equal_worst_cases(momentum, k):
    forms = ("nesterov", "nesterov_stored", "fista")
    found = [certify(METHODS[form], k, momentum=momentum).computed for form in forms]
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


def test_frameworks_have_the_worst_case_of_the_lookahead_points():
    both = [certify(METHODS[f], 3, momentum=0.5).computed for f in ("torch_sgd", "keras_sgd")]
    assert both[0] == pytest.approx(both[1], rel=1e-4)
    assert both[0] != pytest.approx(certify(methods.nesterov, 3, momentum=0.5).computed, rel=1e-2)


def test_certificates_scale_with_smoothness():
    one, four = (certify(methods.gradient_descent, 3, L=L) for L in (1.0, 4.0))
    assert four.computed == pytest.approx(4.0 * one.computed, rel=1e-3)
    assert four.proved == pytest.approx(4.0 * one.proved)


def test_strong_convexity_lowers_the_worst_case():
    without, with_mu = (certify(methods.gradient_descent, 5, mu=mu).computed for mu in (0.0, 0.2))
    assert with_mu < 0.9 * without


def test_a_proof_is_named_for_the_coefficients_it_speaks_of_and_for_no_others():
    assert certify(methods.gradient_descent, 2).proved == theory.gradient_descent_bound(2)
    assert certify(methods.gradient_descent, 2, lr=0.9).proved is None
    assert certify(methods.nesterov, 3, momentum=0.5).proved is None
    known = certify(methods.nesterov, 3, momentum=StronglyConvexMomentum(10.0), mu=0.1).proved
    assert known == theory.strongly_convex_bound(3, 1.0, 0.1)
    assert certify(methods.nesterov, 3, momentum=StronglyConvexMomentum(9.0), mu=0.1).proved is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"L": 0.0}, r"0 <= mu < L, got mu = 0\.0, L = 0\.0"),
        ({"L": math.inf}, "L = inf"),
        ({"mu": -1.0}, r"mu = -1\.0"),
        ({"mu": 1.0}, r"mu = 1\.0, L = 1\.0"),
        ({"momentum": (0.5, 0.5)}, "nesterov takes momentum, .* got 2 at step 0"),
    ],
)
def test_certify_refuses_what_it_cannot_use(change, message):
    arguments = {"steps": 2, "momentum": 0.5} | change
    with pytest.raises(InputError, match=message):
        certify(methods.nesterov, **arguments)


def test_a_rate_is_asked_for_by_its_name_and_with_the_convexity_it_needs():
    with pytest.raises(InputError, match=r"name must be one of gradient descent, .* got warp"):
        certify_rate("warp", 1)
    with pytest.raises(InputError, match="triple momentum is a theorem on strongly convex"):
        certify_rate("triple momentum", 1)


def test_certify_without_pepit_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ImportError, match=r"ngs\[theory\]"):
        certify(methods.nesterov, 1)


def test_an_answer_that_the_solver_doubts_is_asked_for_again_and_then_refused(monkeypatch):
    asked = []

    def doubtful(self, **options):
        asked.append(options["tol_gap_abs"])
        warnings.warn("Solution may be inaccurate. Try another solver", stacklevel=2)
        return 0.123

    monkeypatch.setattr("PEPit.PEP.solve", doubtful)
    with pytest.raises(ArithmeticError, match=r"no finite worst case of nesterov .* for 2 steps"):
        certify(methods.nesterov, 2, momentum=0.5)
    assert asked == [1e-7, 1e-6]


@pytest.mark.parametrize("value", [None, math.inf, math.nan])
def test_a_worst_case_without_bound_is_refused(monkeypatch, value):
    monkeypatch.setattr("PEPit.PEP.solve", lambda self, **options: value)
    with pytest.raises(ArithmeticError, match="lower lr, or steps"):
        certify(methods.gradient_descent, 2)


# --- bounds -------------------------------------------------------------------------------------


def test_bounds_are_the_formulas_of_their_papers():
    assert theory.gradient_descent_bound(5) == pytest.approx(1 / 22)
    assert theory.nesterov_bound(1) == 0.5
    assert theory.nesterov_bound(2) == pytest.approx(0.5 / ((1 + 5**0.5) / 2) ** 2)
    assert theory.simplified_bound(5) == pytest.approx(2 / 56)
    assert theory.shifted_conjecture(5) == pytest.approx(2 / 64)
    assert theory.chambolle_dossal_bound(5, a=3.0) == pytest.approx(9 / (2 * 49))
    assert theory.optimized_bound(1) == pytest.approx(1 / 8)
    assert theory.lower_bound(5) == pytest.approx(3 / (32 * 36))
    assert theory.ode_bound(4.0, R=2.0) == 0.5
    assert theory.strongly_convex_bound(2, L=4.0, mu=1.0) == pytest.approx(0.25 * 2.5)
    assert theory.triple_momentum_bound(1, L=4.0, mu=1.0) == pytest.approx(0.25 * 8.0)
    assert theory.heavy_ball_bound(2, lr=0.125, L=4.0, mu=1.0) == pytest.approx(0.875**2 * 2.0)


@pytest.mark.parametrize("k", [1, 2, 10, 1000])
def test_bounds_are_ordered_as_stated(k):
    assert theory.lower_bound(k) < theory.optimized_bound(k) < theory.nesterov_bound(k)
    assert theory.nesterov_bound(k) <= 2.0 / (k + 1) ** 2
    assert theory.simplified_bound(k) <= theory.chambolle_dossal_bound(k, a=2.0)
    assert theory.chambolle_dossal_bound(k, a=2.0) == pytest.approx(2.0 / (k + 1) ** 2)


@every_rate
def test_every_bound_scales_with_the_curvature_and_the_squared_distance(name):
    bound, mu = RATES[name].bound, mu_for(name)
    assert bound(4, 3.0, 3.0 * mu, 2.0) == pytest.approx(12.0 * bound(4, 1.0, mu, 1.0))


def test_the_optimized_gradient_method_halves_the_worst_case_in_the_limit():
    assert theory.optimized_bound(10_000) / theory.nesterov_bound(10_000) == pytest.approx(
        0.5, rel=1e-2
    )


# --- runs on random problems --------------------------------------------------------------------


@st.composite
def convex_problems(draw) -> tuple[Problem, np.ndarray, float]:
    """A random quadratic or log-sum-exp, a random start and its distance R to the minimiser."""
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    dimension = draw(st.integers(1, 5))
    if draw(st.booleans()):
        top = 10.0 ** draw(st.floats(-3.0, 3.0))
        spectrum = top * 10.0 ** rng.uniform(-6.0, 0.0, size=dimension)
        spectrum[0] = top
        problem = quadratic(spectrum, minimizer=rng.normal(size=dimension), rotation_seed=seed)
    else:
        problem = random_log_sum_exp(
            dimension, 2 * dimension, temperature=10.0 ** draw(st.floats(-1.0, 1.0)), seed=seed
        )
    offset = rng.normal(size=dimension) * 10.0 ** draw(st.floats(-2.0, 1.0))
    return problem, problem.minimizer + offset, float(np.linalg.norm(offset))


@st.composite
def strongly_convex_problems(draw) -> tuple[Problem, np.ndarray, float]:
    """A random quadratic, or the function on which heavy ball cycles, and a random start."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    if draw(st.booleans()):
        top = 10.0 ** draw(st.floats(-2.0, 2.0))
        spectrum = top * 10.0 ** rng.uniform(-3.0, 0.0, size=draw(st.integers(2, 5)))
        spectrum[0] = top
        problem = quadratic(spectrum, minimizer=rng.normal(size=len(spectrum)))
    else:
        problem = lessard_counterexample()
    offset = rng.normal(size=problem.dimension) * 10.0 ** draw(st.floats(-2.0, 1.0))
    return problem, problem.minimizer + offset, float(np.linalg.norm(offset))


def assert_kept(name: str, case: tuple[Problem, np.ndarray, float], steps: int) -> None:
    problem, theta, R = case
    rate, L = RATES[name], problem.L
    mu = problem.mu if rate.strongly_convex else 0.0
    run = minimize(
        rate.method,
        problem,
        theta,
        lr=rate.step_size(L, mu),
        momentum=rate.momentum(steps, L, mu),
        steps=steps,
    )
    # The optimized gradient method promises nothing before its last step.
    for k in [steps] if rate.method is methods.ogm else range(1, run.steps + 1):
        if k > run.steps:
            continue
        rounding = 1e-12 * (abs(problem.minimum) + run.gaps[0])
        assert run.gaps[k] <= rate.bound(k, L, mu, R) * (1.0 + 1e-9) + rounding


@every_convex_rate
@PROPERTY
@given(case=convex_problems(), steps=st.integers(1, 30))
def test_iterates_never_exceed_a_bound_on_convex_functions(name, case, steps):
    assert_kept(name, case, steps)


@every_strong_rate
@PROPERTY
@given(case=strongly_convex_problems(), steps=st.integers(1, 40))
def test_iterates_never_exceed_a_bound_on_strongly_convex_functions(name, case, steps):
    assert_kept(name, case, steps)


@every_convex_rate
@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_no_method_beats_the_lower_bound_on_the_worst_function(name, k):
    rate, problem = RATES[name], worst_function(2 * k + 1)
    run = minimize(
        rate.method,
        problem,
        np.zeros(2 * k + 1),
        lr=rate.step_size(problem.L, 0.0),
        momentum=rate.momentum(k, problem.L, 0.0),
        steps=k,
    )
    R = float(np.linalg.norm(problem.minimizer))
    assert run.steps == k
    assert run.gaps[-1] >= theory.lower_bound(k, problem.L, R)


# --- quadratics ---------------------------------------------------------------------------------


def test_heavy_ball_optimum_has_the_rate_it_names_at_both_ends_of_the_spectrum():
    optimum = theory.heavy_ball_optimum(L=100.0, mu=1.0)
    assert optimum.rate == pytest.approx(9 / 11)
    assert optimum.momentum == pytest.approx(optimum.rate**2)
    for eigenvalue in (1.0, 30.0, 100.0):
        radius = theory.spectral_radius(methods.heavy_ball, eigenvalue, *optimum[:2])
        assert radius == pytest.approx(optimum.rate, rel=1e-6)


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03, 1.1])
def test_no_pair_near_the_optimum_of_heavy_ball_is_better(factor):
    optimum = theory.heavy_ball_optimum(L=100.0, mu=1.0)

    def worst(lr: float, momentum: float) -> float:
        return max(
            theory.spectral_radius(methods.heavy_ball, eigenvalue, lr, momentum)
            for eigenvalue in (1.0, 100.0)
        )

    best = worst(optimum.lr, optimum.momentum)
    assert worst(factor * optimum.lr, optimum.momentum) > best + 1e-4
    assert worst(optimum.lr, min(factor * optimum.momentum, 0.99)) > best + 1e-4


@pytest.mark.parametrize("L_mu", [(1.0, 2.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.nan)])
def test_heavy_ball_optimum_refuses_impossible_constants(L_mu):
    with pytest.raises(InputError, match="0 < mu <= L"):
        theory.heavy_ball_optimum(*L_mu)


@pytest.mark.parametrize("name", METHODS)
def test_the_iteration_matrix_is_the_step_on_a_parabola(name):
    method = METHODS[name]
    coefficients = {
        "gradient_descent": 0.0,
        "ogm": (0.5, 0.25),
        "triple_momentum": (0.5, 0.25, 0.125),
        "three_sequences": (0.5, 0.25, 1.5),
    }.get(name, 0.5)
    matrix = theory.iteration_matrix(method, 3.0, 0.1, coefficients)
    betas = coefficients_at(method, coefficients, 0)
    state = type(method.start(0.0))(1.5, -0.5)
    after = method.step(state, 3.0 * method.gradient_point(state, *betas), 0.1, *betas)
    assert matrix @ np.array(state) == pytest.approx(np.array(after))


def test_the_matrix_of_gradient_descent_and_of_nesterov_are_those_of_the_book():
    eta, beta, curvature = 0.1, 0.5, 3.0
    kept = 1.0 - eta * curvature
    expected = [[kept, beta * kept], [-eta * curvature, beta * kept]]
    found = theory.iteration_matrix(methods.nesterov, curvature, eta, beta)
    assert found == pytest.approx(np.array(expected))
    assert theory.spectral_radius(methods.gradient_descent, curvature, eta) == pytest.approx(kept)


def test_an_exact_bound_of_one_step_is_met_on_paper():
    # After one descent step the worst function is a Huber function; its gap is exactly LR^2/6.
    slope = Fraction(1, 3)  # L = R = 1, and slope R / (2k + 1) with k = 1
    theta = Fraction(1) - slope
    assert slope * theta - slope**2 / 2 == Fraction(1, 6)


def test_chambolle_dossal_with_two_is_the_simplified_sequence_and_so_are_their_certificates():
    found = [
        certify(methods.nesterov, 4, momentum=m).computed
        for m in (ChambolleDossalMomentum(2.0), SimplifiedMomentum())
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_three_sequences_have_the_worst_case_of_nesterov():
    found = certify(methods.three_sequences, 4, momentum=ConvexAnchor()).computed
    assert found == pytest.approx(
        certify(methods.nesterov, 4, momentum=NesterovMomentum()).computed, rel=1e-4
    )
