"""The test problems: their gradients, their constants L and mu, their minimisers, and that the
worst function is as bad as Nesterov's theorem says, for every method.
"""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ngs.errors import InputError
from ngs.methods import METHODS
from ngs.minimize import minimize
from ngs.problems import Problem, quadratic, worst_function
from ngs.schedules import NesterovMomentum

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)

PROBLEMS = {
    "line": quadratic([3.0]),
    "axes": quadratic([1.0, 10.0, 100.0], minimizer=[1.0, -2.0, 0.5]),
    "rotated": quadratic([0.5, 2.0, 2.0, 40.0], minimizer=[3.0, 0.0, -1.0, 2.0], rotation_seed=1),
    "flat": quadratic([0.0, 1.0, 4.0], rotation_seed=2),
    "worst-1": worst_function(1),
    "worst-2": worst_function(2, L=7.0),
    "worst-9": worst_function(9, L=0.5),
}
SPECTRA = {
    "line": [3.0],
    "axes": [1.0, 10.0, 100.0],
    "rotated": [0.5, 2.0, 2.0, 40.0],
    "flat": [0.0, 1.0, 4.0],
}

every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def hessian(problem: Problem) -> np.ndarray:
    """Return the matrix of the gradient, which is linear for every problem here."""
    origin = problem.grad(np.zeros(problem.dimension))
    return np.array([problem.grad(e) - origin for e in np.eye(problem.dimension)])


def worst_value_in_torch(theta: torch.Tensor, L: float) -> torch.Tensor:
    """The formula of the docstring, term by term."""
    squares = theta[0] ** 2 + ((theta[:-1] - theta[1:]) ** 2).sum() + theta[-1] ** 2
    return L / 4 * (squares / 2 - theta[0])


@st.composite
def quadratics(draw) -> Problem:
    spectrum = draw(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
    coordinates = st.lists(st.floats(-10.0, 10.0), min_size=len(spectrum), max_size=len(spectrum))
    seed = draw(st.none() | st.integers(0, 1000))
    return quadratic(spectrum, minimizer=draw(coordinates), rotation_seed=seed)


worst_functions = st.builds(worst_function, st.integers(1, 12), st.floats(1e-2, 1e2))


def pair_of_points(problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=problem.dimension) * 10.0 ** rng.uniform(-2.0, 2.0)
    return x, x + rng.normal(size=problem.dimension) * 10.0 ** rng.uniform(-2.0, 2.0)


@every_problem
def test_gradient_is_the_central_difference_of_the_value(problem):
    theta = np.random.default_rng(0).normal(size=problem.dimension)
    h = 1e-3  # central differences of a quadratic have no truncation error
    slopes = [
        (problem.value(theta + h * e) - problem.value(theta - h * e)) / (2.0 * h)
        for e in np.eye(problem.dimension)
    ]
    np.testing.assert_allclose(problem.grad(theta), slopes, rtol=1e-8, atol=1e-8 * problem.L)


@pytest.mark.parametrize("name", SPECTRA)
def test_quadratic_agrees_with_torch_autograd_on_its_own_matrix(name):
    problem = PROBLEMS[name]
    A = torch.tensor(hessian(problem))
    center = torch.tensor(problem.minimizer)
    theta = torch.linspace(-1.0, 2.0, problem.dimension, dtype=torch.float64, requires_grad=True)
    value = 0.5 * (theta - center) @ A @ (theta - center)
    value.backward()
    point = theta.detach().numpy()
    assert problem.value(point) == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(problem.grad(point), theta.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dimension", "L"), [(1, 1.0), (2, 7.0), (9, 0.5)])
def test_worst_function_agrees_with_torch_autograd_on_its_formula(dimension, L):
    problem = worst_function(dimension, L)
    theta = torch.linspace(-1.0, 2.0, dimension, dtype=torch.float64, requires_grad=True)
    value = worst_value_in_torch(theta, L)
    value.backward()
    point = theta.detach().numpy()
    assert problem.value(point) == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(problem.grad(point), theta.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRA)
def test_quadratic_has_the_spectrum_it_was_given(name):
    A = hessian(PROBLEMS[name])
    np.testing.assert_allclose(A, A.T, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(A), SPECTRA[name], atol=1e-12)


def test_rotation_is_reproducible_and_differs_between_seeds():
    a, b, c = (hessian(quadratic([1.0, 5.0], rotation_seed=s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
    assert np.abs(a[0, 1]) > 1e-3


@pytest.mark.parametrize("name", SPECTRA)
def test_constants_of_a_quadratic_are_attained(name):
    values = np.linalg.eigvalsh(hessian(PROBLEMS[name]))
    assert values[-1] == pytest.approx(PROBLEMS[name].L)
    assert values[0] == pytest.approx(PROBLEMS[name].mu, abs=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 5, 30])
def test_worst_function_attains_mu_and_comes_close_to_its_smoothness(dimension):
    problem = worst_function(dimension, L=3.0)
    values = np.linalg.eigvalsh(hessian(problem))
    assert problem.mu == pytest.approx(values[0], rel=1e-9)
    assert problem.L * (1.0 - 3.0 / (dimension + 1) ** 2) <= values[-1] < problem.L


@PROPERTY
@given(quadratics() | worst_functions, st.integers(0, 10**6))
def test_gradient_is_lipschitz_with_the_constant_given(problem, seed):
    x, y = pair_of_points(problem, seed)
    change = np.linalg.norm(problem.grad(x) - problem.grad(y))
    rounding = 1e-12 * problem.L * (1.0 + np.abs(x).max() + np.abs(y).max())
    assert change <= problem.L * np.linalg.norm(x - y) + 100.0 * rounding


@PROPERTY
@given(quadratics() | worst_functions, st.integers(0, 10**6))
def test_function_is_strongly_convex_with_the_constant_given(problem, seed):
    x, y = pair_of_points(problem, seed)
    tangent = problem.value(x) + problem.grad(x) @ (y - x)
    curvature = 0.5 * problem.mu * np.sum((y - x) ** 2)
    rounding = 1e-12 * problem.L * (100.0 + np.sum(x**2) + np.sum(y**2))
    assert problem.value(y) >= tangent + curvature - rounding


@PROPERTY
@given(quadratics() | worst_functions, st.integers(0, 10**6))
def test_no_point_lies_below_the_minimum(problem, seed):
    for point in pair_of_points(problem, seed):
        assert problem.value(point) >= problem.minimum - 1e-12 * (1.0 + problem.L)


@every_problem
def test_minimizer_has_zero_gradient_and_the_minimum_is_the_value_there(problem):
    np.testing.assert_allclose(problem.grad(problem.minimizer), 0.0, atol=1e-14 * problem.L)
    assert problem.value(problem.minimizer) == pytest.approx(problem.minimum, abs=1e-14)


@every_problem
def test_dimension_is_that_of_the_minimizer_and_kappa_the_quotient(problem):
    assert problem.minimizer.shape == (problem.dimension,)
    if problem.mu > 0.0:
        assert problem.kappa == pytest.approx(problem.L / problem.mu)
    else:
        assert problem.kappa == float("inf")


@every_problem
def test_value_and_gradient_leave_their_argument_alone(problem):
    theta = np.ones(problem.dimension)
    theta.flags.writeable = False
    problem.value(theta)
    assert problem.grad(theta) is not theta


def test_a_problem_keeps_its_minimizer_when_the_callers_array_changes():
    center = np.array([1.0, 2.0])
    problem = quadratic([1.0, 2.0], minimizer=center)
    center += 5.0
    np.testing.assert_array_equal(problem.minimizer, [1.0, 2.0])
    assert problem.value(problem.minimizer) == 0.0


@PROPERTY
@given(
    method=st.sampled_from(list(METHODS.values())),
    dimension=st.integers(2, 12),
    coefficients=st.lists(
        st.tuples(st.floats(1e-3, 2.0), st.floats(0.0, 0.99)), min_size=12, max_size=12
    ),
)
def test_worst_function_reveals_one_coordinate_a_step(method, dimension, coefficients):
    run = minimize(
        method,
        worst_function(dimension),
        np.zeros(dimension),
        lr=lambda t: coefficients[t][0],
        **({"momentum": lambda t: coefficients[t][1]} if method.uses_momentum else {}),
        steps=dimension,
    )
    for k, theta in enumerate(run.iterates):
        assert not theta[k:].any(), "a coordinate beyond k has moved"
    assert run.iterates[1][0] != 0.0


# Theorem 2.1.7 chooses the function after k: dimension 2k + 1 for k steps. In a higher dimension
# R grows, and the bound with that R is not true (the last of these tests shows it).


@every_method
@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_lower_bound_holds_for_every_method_with_its_usual_coefficients(method, k):
    problem = worst_function(2 * k + 1, L=2.0)
    momenta = [0.5, 0.9, NesterovMomentum()] if method.uses_momentum else [0.0]
    R = np.linalg.norm(problem.minimizer)
    for momentum in momenta:
        for lr in (0.5, 0.25):
            run = minimize(method, problem, np.zeros(2 * k + 1), lr=lr, momentum=momentum, steps=k)
            assert run.steps == k
            assert run.gaps[-1] >= 3.0 * problem.L * R**2 / (32.0 * (k + 1) ** 2)


@PROPERTY
@given(
    method=st.sampled_from(list(METHODS.values())),
    coefficients=st.lists(
        st.tuples(st.floats(1e-3, 3.0), st.floats(0.0, 0.99)), min_size=1, max_size=12
    ),
)
def test_lower_bound_holds_under_any_coefficients(method, coefficients):
    k = len(coefficients)
    problem = worst_function(2 * k + 1)
    run = minimize(
        method,
        problem,
        np.zeros(2 * k + 1),
        lr=lambda t: coefficients[t][0],
        **({"momentum": lambda t: coefficients[t][1]} if method.uses_momentum else {}),
        steps=k,
    )
    assume(run.steps == k)
    R = np.linalg.norm(problem.minimizer)
    assert run.gaps[-1] >= 3.0 * R**2 / (32.0 * (k + 1) ** 2)


@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_lower_bound_holds_for_the_best_point_of_the_first_k_coordinates(k):
    problem = worst_function(2 * k + 1)
    best = np.concatenate([worst_function(k).minimizer, np.zeros(k + 1)])
    gap = problem.value(best) - problem.minimum
    bound = 3.0 * np.sum(problem.minimizer**2) / (32.0 * (k + 1) ** 2)
    n = k + 1
    assert gap / bound == pytest.approx(8 * n**2 / ((2 * n - 1) * (4 * n - 1)))
    assert gap > bound


def test_lower_bound_with_the_distance_of_a_far_higher_dimension_is_not_true():
    problem = worst_function(101)
    run = minimize(METHODS["gradient_descent"], problem, np.zeros(101), lr=1.0, steps=1)
    assert run.gaps[-1] < 3.0 * np.sum(problem.minimizer**2) / (32.0 * 2**2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quadratic([]), r"shape \(0,\)"),
        (lambda: quadratic([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: quadratic([-1.5, 2.0]), r"from -1\.5 to 2\.0"),
        (lambda: quadratic([0.0, 0.0]), r"from 0\.0 to 0\.0"),
        (lambda: quadratic([1.0, np.nan]), "nan"),
        (lambda: quadratic([1.0, np.inf]), "inf"),
        (lambda: quadratic([1.0, 2.0], minimizer=[0.0] * 3), r"shape \(2,\), got \(3,\)"),
        (lambda: quadratic([1.0, 2.0], minimizer=0.5), r"shape \(2,\), got \(\)"),
        (lambda: quadratic([1.0, 2.0], minimizer=[0.0, np.nan]), "finite, got .*nan"),
        (lambda: worst_function(0), "dimension must be 1 or more, got 0"),
        (lambda: worst_function(-4), "got -4"),
        (lambda: worst_function(3, L=0.0), r"L must be finite and above 0, got 0\.0"),
        (lambda: worst_function(3, L=-2.0), r"got -2\.0"),
        (lambda: worst_function(3, L=np.inf), "got inf"),
        (lambda: worst_function(3, L=np.nan), "got nan"),
    ],
)
def test_a_bad_input_is_refused_with_what_was_given(make, message):
    with pytest.raises(InputError, match=message):
        make()
