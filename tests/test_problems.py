"""The test problems: their gradients, their constants L and mu, their minimisers, that the worst
function is as bad as Nesterov's theorem says, and that heavy ball cycles where its source says.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ngs.errors import InputError
from ngs.methods import METHODS, State, gradient_descent, heavy_ball, nesterov
from ngs.minimize import Stop, minimize
from ngs.problems import (
    Problem,
    classification,
    digits_logistic_regression,
    lessard_counterexample,
    log_sum_exp,
    logistic_regression,
    mean_squared_error,
    quadratic,
    random_log_sum_exp,
    rosenbrock,
    ten_weights,
    worst_function,
)
from ngs.schedules import (
    ConvexAnchor,
    NesterovMomentum,
    OptimizedMomentum,
    StronglyConvexAnchor,
    StronglyConvexMomentum,
    TripleMomentum,
)

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


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The matrices are small: threads that wait for each other cost more than they save."""
    with threadpool_limits(1):
        yield


def hessian(problem: Problem) -> np.ndarray:
    """Return the matrix of the gradient, which is linear for every problem here."""
    origin = problem.grad(np.zeros(problem.dimension))
    return np.array([problem.grad(e) - origin for e in np.eye(problem.dimension)])


def worst_value_in_torch(theta: torch.Tensor, L: float) -> torch.Tensor:
    """The formula of the docstring, term by term."""
    squares = theta[0] ** 2 + ((theta[:-1] - theta[1:]) ** 2).sum() + theta[-1] ** 2
    return L / 4 * (squares / 2 - theta[0])


class Case(NamedTuple):
    """A problem and its formula, written a second time in torch.

    ``reach`` is a length over which the function looks smooth, ``kinks`` where its slope breaks.
    """

    problem: Problem
    formula: Callable[[torch.Tensor], torch.Tensor]
    reach: float = 1.0
    kinks: tuple[float, ...] = ()


def quadratic_in_torch(problem: Problem) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return half the square of the distance to the minimiser, measured by the Hessian."""
    A, center = torch.tensor(hessian(problem)), torch.tensor(problem.minimizer)
    return lambda theta: 0.5 * (theta - center) @ A @ (theta - center) + problem.minimum


def lessard_in_torch(theta: torch.Tensor) -> torch.Tensor:
    """The parabola of curvature 25, less what the flat piece from 1 to 2 takes away."""
    x = theta[0]
    return 12.5 * x**2 - 12 * torch.relu(x - 1) ** 2 + 12 * torch.relu(x - 2) ** 2


def rosenbrock_in_torch(theta: torch.Tensor) -> torch.Tensor:
    return sum(
        100 * (theta[i + 1] - theta[i] ** 2) ** 2 + (1 - theta[i]) ** 2
        for i in range(len(theta) - 1)
    )


def log_sum_exp_in_torch(A, b, rho) -> Callable[[torch.Tensor], torch.Tensor]:
    A, b = torch.tensor(A), torch.tensor(b)
    return lambda theta: rho * torch.logsumexp((A @ theta - b) / rho, 0)


def logistic_in_torch(A, y, r) -> Callable[[torch.Tensor], torch.Tensor]:
    A, y = torch.tensor(A), torch.tensor(y)
    return lambda theta: (
        -torch.nn.functional.logsigmoid(y * (A @ theta)).mean() + r / 2 * theta.square().sum()
    )


def mean_squared_error_in_torch(A, b) -> Callable[[torch.Tensor], torch.Tensor]:
    A, b = torch.tensor(A), torch.tensor(b)
    return lambda theta: torch.nn.functional.mse_loss(A @ theta, b)


@cache
def digits_data() -> tuple[np.ndarray, np.ndarray]:
    """Pixels from 0 to 1 with a constant beside them, and +1 for the even digits."""
    bunch = load_digits()
    pixels = bunch.images.reshape(-1, 64) / bunch.images.max()
    labels = np.array([-1.0 if digit in (1, 3, 5, 7, 9) else 1.0 for digit in bunch.target])
    return np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1), labels


seeds = st.integers(0, 10**6)


def random_matrix(draw, columns: int | None = None) -> tuple[np.ndarray, np.random.Generator]:
    """Return a matrix of random shape, kind of rows and size, and the generator for what follows.

    Now and then two columns are the same, or there are fewer rows than columns.
    """
    rng = np.random.default_rng(draw(seeds))
    d = draw(st.integers(1, 5)) if columns is None else columns
    A = rng.normal(size=(draw(st.integers(1, 8)), d)) * 10.0 ** draw(st.floats(-1.0, 1.0))
    if draw(st.booleans()):
        A[:, -1] = A[:, 0]
    return A, rng


@st.composite
def quadratic_cases(draw) -> Case:
    spectrum = draw(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
    coordinates = st.lists(st.floats(-10.0, 10.0), min_size=len(spectrum), max_size=len(spectrum))
    seed = draw(st.none() | st.integers(0, 1000))
    problem = quadratic(spectrum, minimizer=draw(coordinates), rotation_seed=seed)
    return Case(problem, quadratic_in_torch(problem))


@st.composite
def worst_cases(draw) -> Case:
    L = draw(st.floats(1e-2, 1e2))
    problem = worst_function(draw(st.integers(1, 12)), L)
    return Case(problem, lambda theta: worst_value_in_torch(theta, L))


@st.composite
def log_sum_exp_cases(draw) -> Case:
    A, rng = random_matrix(draw)
    b = rng.normal(size=len(A))
    rho = 10.0 ** draw(st.floats(-1.5, 1.5))
    reach = rho / np.abs(A).sum(1).max()
    return Case(log_sum_exp(A, b, rho), log_sum_exp_in_torch(A, b, rho), reach)


@st.composite
def random_log_sum_exp_cases(draw, temperatures=(0.03, 30.0)) -> Case:
    d = draw(st.integers(1, 6))
    terms, seed = d + draw(st.integers(1, 10)), draw(seeds)
    rho = draw(st.floats(*temperatures))
    problem = random_log_sum_exp(d, terms, temperature=rho, seed=seed)
    rng = np.random.default_rng(seed)  # the recipe of the docstring, a second time
    A, b = rng.normal(size=(terms, d)), rng.normal(size=terms)
    weights = torch.softmax(torch.tensor(A @ problem.minimizer - b) / rho, 0).numpy()
    centered = np.array([row - weights @ A for row in A])
    reach = rho / np.abs(centered).sum(1).max()
    return Case(problem, log_sum_exp_in_torch(centered, b, rho), reach)


@st.composite
def logistic_cases(draw) -> Case:
    A, rng = random_matrix(draw)
    y = rng.choice([-1.0, 1.0], size=len(A))
    r = draw(st.just(0.0) | st.floats(1e-4, 10.0))
    reach = 1.0 / np.abs(A).sum(1).max()
    return Case(logistic_regression(A, y, r), logistic_in_torch(A, y, r), reach)


@st.composite
def digits_cases(draw) -> Case:
    r = draw(st.sampled_from([1e-3, 1e-1]))
    return Case(digits_logistic_regression(r), logistic_in_torch(*digits_data(), r), 0.1)


@st.composite
def mean_squared_error_cases(draw) -> Case:
    A, rng = random_matrix(draw)
    b = rng.normal(size=len(A)) * 10.0 ** draw(st.floats(-1.0, 1.0))
    return Case(mean_squared_error(A, b), mean_squared_error_in_torch(A, b))


@st.composite
def ten_weights_cases(draw) -> Case:
    seed, samples = draw(seeds), draw(st.integers(12, 40))
    rng = np.random.default_rng(seed)  # the recipe of the docstring, a second time
    A, w = rng.normal(size=(samples, 10)), rng.normal(size=10)
    return Case(ten_weights(seed, samples=samples), mean_squared_error_in_torch(A, A @ w))


CONVEX = {
    "quadratic": quadratic_cases(),
    "worst_function": worst_cases(),
    "lessard": st.just(Case(lessard_counterexample(), lessard_in_torch, kinks=(1.0, 2.0))),
    "log_sum_exp": log_sum_exp_cases(),
    "random_log_sum_exp": random_log_sum_exp_cases(),
    "logistic_regression": logistic_cases(),
    "digits": digits_cases(),
    "mean_squared_error": mean_squared_error_cases(),
    "ten_weights": ten_weights_cases(),
}
KINDS = CONVEX | {
    "rosenbrock": st.builds(lambda d: Case(rosenbrock(d), rosenbrock_in_torch), st.integers(2, 6)),
}
SOLVED = KINDS.keys() - {"log_sum_exp", "logistic_regression"}
"""The kinds that know their minimum."""

every_kind = pytest.mark.parametrize("kind", KINDS)
every_convex_kind = pytest.mark.parametrize("kind", CONVEX)
every_solved_kind = pytest.mark.parametrize("kind", sorted(SOLVED))


def pair_of_points(problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=problem.dimension) * 10.0 ** rng.uniform(-2.0, 2.0)
    return x, x + rng.normal(size=problem.dimension) * 10.0 ** rng.uniform(-2.0, 2.0)


def gradient_scale(problem: Problem, *points: np.ndarray) -> float:
    """Return how large the terms are that a gradient at these points is summed from."""
    size = 1.0 + max(np.abs(point).max() for point in points)
    return (1e4 * size**2 if problem.L is None else problem.L) * size


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


@every_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_value_and_gradient_agree_with_torch_autograd_on_the_formula(kind, data, seed):
    problem, formula, _, _ = data.draw(KINDS[kind])
    for point in pair_of_points(problem, seed):
        theta = torch.tensor(point, requires_grad=True)
        value = formula(theta)
        value.backward()
        scale = gradient_scale(problem, point)
        room = 1e-13 * scale * (1.0 + np.abs(point).max())
        assert problem.value(point) == pytest.approx(value.item(), rel=1e-11, abs=room)
        np.testing.assert_allclose(problem.grad(point), theta.grad.numpy(), 1e-9, 1e-11 * scale)
        assert problem.grad(point).shape == (problem.dimension,)
        assert type(problem.value(point)) is float


@every_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_value_changes_along_a_line_by_the_integral_of_the_slope(kind, data, seed):
    problem, _, reach, kinks = data.draw(KINDS[kind])
    rng = np.random.default_rng(seed)
    x = rng.normal(size=problem.dimension) * 10.0 ** rng.uniform(-1.0, 0.5)
    step = rng.normal(size=problem.dimension)
    step *= reach / np.linalg.norm(step)
    crossed = [(kink - x[0]) / step[0] for kink in kinks]
    ends = [0.0, *sorted(t for t in crossed if 0.0 < t < 1.0), 1.0]
    nodes, weights = np.polynomial.legendre.leggauss(12)
    work = sum(
        0.5
        * (b - a)
        * weight
        * (problem.grad(x + (a + 0.5 * (b - a) * (1.0 + node)) * step) @ step)
        for a, b in pairwise(ends)
        for node, weight in zip(nodes, weights, strict=True)
    )
    room = 1e-11 * (abs(problem.value(x)) + gradient_scale(problem, x, x + step) * reach)
    assert problem.value(x + step) - problem.value(x) == pytest.approx(work, rel=1e-10, abs=room)


@every_convex_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_gradient_is_lipschitz_with_the_constant_given(kind, data, seed):
    problem = data.draw(CONVEX[kind]).problem
    x, y = pair_of_points(problem, seed)
    change = np.linalg.norm(problem.grad(x) - problem.grad(y))
    rounding = 1e-12 * problem.L * (1.0 + np.abs(x).max() + np.abs(y).max())
    assert change <= problem.L * np.linalg.norm(x - y) + 100.0 * rounding


@every_convex_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_gradient_is_strongly_monotone_with_the_constant_given(kind, data, seed):
    problem = data.draw(CONVEX[kind]).problem
    x, y = pair_of_points(problem, seed)
    step = x - y
    rounding = 1e-12 * gradient_scale(problem, x, y) * np.linalg.norm(step)
    rise = (problem.grad(x) - problem.grad(y)) @ step
    assert rise >= problem.mu * (step @ step) - rounding


@every_convex_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_function_is_strongly_convex_with_the_constant_given(kind, data, seed):
    problem = data.draw(CONVEX[kind]).problem
    x, y = pair_of_points(problem, seed)
    tangent = problem.value(x) + problem.grad(x) @ (y - x)
    curvature = 0.5 * problem.mu * np.sum((y - x) ** 2)
    rounding = 1e-12 * problem.L * (100.0 + np.sum(x**2) + np.sum(y**2))
    rounding += 1e-12 * abs(problem.value(x))
    assert problem.value(y) >= tangent + curvature - rounding


@every_solved_kind
@PROPERTY
@given(data=st.data(), seed=seeds)
def test_no_point_lies_below_the_minimum(kind, data, seed):
    problem = data.draw(KINDS[kind]).problem
    rounding = 1e-12 * (1.0 + abs(problem.minimum) + gradient_scale(problem, problem.minimizer))
    for point in pair_of_points(problem, seed):
        for shift in (0.0, problem.minimizer):
            assert problem.value(point + shift) >= problem.minimum - rounding


@every_solved_kind
@PROPERTY
@given(data=st.data())
def test_the_minimizer_is_a_point_of_zero_gradient_with_the_minimum_as_its_value(kind, data):
    problem = data.draw(KINDS[kind]).problem
    scale = gradient_scale(problem, problem.minimizer)
    np.testing.assert_allclose(problem.grad(problem.minimizer), 0.0, atol=1e-14 + 1e-12 * scale)
    assert problem.value(problem.minimizer) == pytest.approx(problem.minimum, rel=1e-14, abs=1e-14)
    assert problem.minimizer.shape == (problem.dimension,)


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


EVERY = PROBLEMS | {
    "lessard": lessard_counterexample(),
    "rosenbrock": rosenbrock(3),
    "log-sum-exp": log_sum_exp([[1.0, 2.0], [3.0, -1.0]], [0.0, 1.0], 0.5),
    "random log-sum-exp": random_log_sum_exp(2, 5),
    "logistic": logistic_regression([[1.0, 2.0], [3.0, -1.0]], [1, -1], 0.5),
    "mean squared error": mean_squared_error([[1.0, 2.0], [3.0, -1.0]], [1, -1]),
    "ten weights": ten_weights(),
}


@pytest.mark.parametrize("problem", EVERY.values(), ids=EVERY.keys())
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


RANGES = {
    "momentum": st.floats(0.0, 0.99),
    "mixing": st.floats(0.01, 1.0),
    "pull": st.floats(0.0, 1.0),
    "stride": st.floats(0.0, 5.0),
    "correction": st.floats(0.0, 1.0),
    "peek": st.floats(0.0, 1.0),
    "output": st.floats(0.0, 1.0),
}


@st.composite
def methods_with_coefficients(draw, steps):
    """Return any method and random schedules for it, as the arguments of ``minimize``."""
    method = draw(st.sampled_from(list(METHODS.values())))
    names = [name for name in method.coefficients if not name.startswith("next_")]
    k = draw(steps)
    lr = draw(st.lists(st.floats(1e-3, 2.0), min_size=k, max_size=k))
    one = st.tuples(*(RANGES[name] for name in names))
    several = draw(st.lists(one, min_size=k + 1, max_size=k + 1))  # next_... looks one step ahead
    schedules = {"lr": lambda t: lr[t]} | ({"momentum": lambda t: several[t]} if names else {})
    return method, schedules, k


@PROPERTY
@given(methods_with_coefficients(st.integers(2, 12)))
def test_worst_function_reveals_one_coordinate_a_step(case):
    method, schedules, dimension = case
    problem = worst_function(dimension)
    run = minimize(method, problem, np.zeros(dimension), **schedules, steps=dimension)
    for k, theta in enumerate(run.iterates):
        assert not theta[k:].any(), "a coordinate beyond k has moved"
    assert run.iterates[1][0] != 0.0


# Theorem 2.1.7 chooses the function after k: dimension 2k + 1 for k steps. In a higher dimension
# R grows, and the bound with that R is not true (the last of these tests shows it).


def usual_coefficients(method, problem, k):
    """Return what a method is run with, by the names of what it takes."""
    kappa = problem.kappa
    schedules = [0.5, 0.9, NesterovMomentum(), StronglyConvexMomentum(kappa)]
    return {
        (): [0.0],
        ("momentum",): schedules,
        ("momentum", "next_momentum"): schedules,
        ("mixing", "pull", "stride"): [ConvexAnchor(), StronglyConvexAnchor(kappa)],
        ("momentum", "correction"): [OptimizedMomentum(k)],
        ("momentum", "peek", "output"): [TripleMomentum(kappa)],
    }[method.coefficients]


@every_method
@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_lower_bound_holds_for_every_method_with_its_usual_coefficients(method, k):
    problem = worst_function(2 * k + 1, L=2.0)
    R = np.linalg.norm(problem.minimizer)
    for momentum in usual_coefficients(method, problem, k):
        for lr in (0.5, 0.25):
            run = minimize(method, problem, np.zeros(2 * k + 1), lr=lr, momentum=momentum, steps=k)
            assert run.steps == k
            assert run.gaps[-1] >= 3.0 * problem.L * R**2 / (32.0 * (k + 1) ** 2)


@PROPERTY
@given(methods_with_coefficients(st.integers(1, 12)))
def test_lower_bound_holds_under_any_coefficients(case):
    method, schedules, k = case
    problem = worst_function(2 * k + 1)
    run = minimize(method, problem, np.zeros(2 * k + 1), **schedules, steps=k)
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
    run = minimize(gradient_descent, problem, np.zeros(101), lr=1.0, steps=1)
    assert run.gaps[-1] < 3.0 * np.sum(problem.minimizer**2) / (32.0 * 2**2)


# --- Lessard's counterexample -------------------------------------------------------------------

CYCLE = np.array([-2208.0, 2592.0, 792.0]) / 1225.0
BEST_ON_QUADRATICS = {"lr": 1.0 / 9.0, "momentum": 4.0 / 9.0}  # of kappa = 25


def test_heavy_ball_coefficients_are_the_best_for_quadratics_of_this_condition_number():
    f = lessard_counterexample()
    roots = np.sqrt([f.L, f.mu])
    assert BEST_ON_QUADRATICS["lr"] == pytest.approx((2.0 / roots.sum()) ** 2)
    assert BEST_ON_QUADRATICS["momentum"] == pytest.approx((np.ptp(roots) / roots.sum()) ** 2)
    bowl = quadratic([f.mu, f.L])
    assert minimize(heavy_ball, bowl, [3.3, 3.3], **BEST_ON_QUADRATICS, steps=200).gaps[-1] < 1e-30


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_the_three_points_are_a_cycle_of_heavy_ball(phase):
    f = lessard_counterexample()
    before, now, after = np.roll(CYCLE, -phase)
    state = State(np.array([now]), np.array([now - before]))
    state = heavy_ball.step(state, f.grad(state.theta), **BEST_ON_QUADRATICS)
    assert state.theta[0] == pytest.approx(after, abs=1e-14)


@PROPERTY
@given(st.floats(3.07, 3.46))
def test_heavy_ball_falls_into_the_cycle_from_a_whole_interval(theta):
    run = minimize(heavy_ball, lessard_counterexample(), [theta], **BEST_ON_QUADRATICS, steps=600)
    assert run.stop is Stop.BUDGET
    last = run.iterates[-3:, 0]
    np.testing.assert_allclose(np.roll(last, -np.argmin(last)), CYCLE, atol=1e-12)


@pytest.mark.parametrize("theta", [3.05, 3.5])
def test_heavy_ball_converges_from_outside_that_interval(theta):
    run = minimize(heavy_ball, lessard_counterexample(), [theta], **BEST_ON_QUADRATICS, steps=600)
    assert abs(run.theta[0]) < 1e-12


@PROPERTY
@given(st.just(3.3) | st.floats(-10.0, 10.0))
def test_nesterov_converges_where_heavy_ball_cycles(theta):
    f = lessard_counterexample()
    momentum = StronglyConvexMomentum(f.kappa)
    run = minimize(nesterov, f, [theta], lr=1.0 / f.L, momentum=momentum, steps=300)
    assert abs(run.theta[0]) < 1e-12


@pytest.mark.parametrize(("piece", "curvature"), [((-9, 1), 25), ((1, 2), 1), ((2, 9), 25)])
def test_lessard_gradient_has_the_slope_of_each_piece_and_no_jump(piece, curvature):
    f = lessard_counterexample()
    left, right = (np.array([float(x)]) for x in piece)
    rise = f.grad(np.nextafter(right, left)) - f.grad(left)
    assert rise == pytest.approx(curvature * (right - left))
    for end in (left, right):
        for inside in (np.nextafter(end, -np.inf), np.nextafter(end, np.inf)):
            assert f.grad(inside) == pytest.approx(f.grad(end))
            assert f.value(inside) == pytest.approx(f.value(end))
    assert {f.L, f.mu} >= {float(curvature)}


# --- Rosenbrock ---------------------------------------------------------------------------------


def test_rosenbrock_has_the_values_worked_out_on_paper():
    assert rosenbrock().value(np.array([-1.2, 1.0])) == pytest.approx(24.2)
    assert rosenbrock(3).value(np.array([1.0, 2.0, 3.0])) == 100.0 + 0.0 + 100.0 + 1.0
    np.testing.assert_allclose(rosenbrock().grad(np.array([-1.2, 1.0])), [-215.6, -88.0])
    np.testing.assert_array_equal(rosenbrock(3).grad(np.zeros(3)), [-2.0, -2.0, 0.0])


def test_rosenbrock_has_no_smoothness_and_no_convexity_that_holds_everywhere():
    f = rosenbrock()

    def quotient(x, y):
        x, y = np.array(x), np.array(y)
        return (f.grad(x) - f.grad(y)) @ (x - y) / ((x - y) @ (x - y))

    assert quotient([1e3, 0.0], [-1e3, 0.0]) > 1e8
    assert quotient([1e6, 0.0], [-1e6, 0.0]) > 1e14
    assert quotient([0.1, 1.0], [-0.1, 1.0]) < -300.0
    assert (f.L, f.mu) == (None, None)


@pytest.mark.parametrize("dimension", range(4, 11))
def test_rosenbrock_has_a_second_local_minimum_in_four_to_ten_dimensions(dimension):
    f = rosenbrock(dimension)
    theta = torch.ones(dimension, dtype=torch.float64)
    theta[0] = -1.0
    for _ in range(30):
        H = torch.autograd.functional.hessian(rosenbrock_in_torch, theta)
        theta = theta - torch.linalg.solve(H, torch.tensor(f.grad(theta.numpy())))
    np.testing.assert_allclose(f.grad(theta.numpy()), 0.0, atol=1e-10)
    assert torch.linalg.eigvalsh(H)[0] > 0.0
    assert theta[0] < -0.7
    assert f.value(theta.numpy()) > 3.5


# --- log-sum-exp --------------------------------------------------------------------------------


@PROPERTY
@given(st.data(), st.floats(0.0, 300.0))
def test_log_sum_exp_stays_between_the_maximum_and_its_bound_however_far_out(data, exponent):
    A, rng = random_matrix(data.draw)
    b, rho = rng.normal(size=len(A)), 10.0 ** data.draw(st.floats(-6.0, 6.0))
    problem = log_sum_exp(A, b, rho)
    theta = rng.normal(size=A.shape[1]) * 10.0**exponent
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, grad = problem.value(theta), problem.grad(theta)
    top = (A @ theta - b).max()
    assert top <= value <= top + rho * np.log(len(A)) + 1e-14 * abs(top)
    assert (A.min(0) - 1e-12 <= grad).all()
    assert (grad <= A.max(0) + 1e-12).all()


@PROPERTY
@given(log_sum_exp_cases(), seeds)
def test_half_of_the_smoothness_of_log_sum_exp_would_do(case, seed):
    x, y = pair_of_points(case.problem, seed)
    change = np.linalg.norm(case.problem.grad(x) - case.problem.grad(y))
    assert change <= 0.5 * case.problem.L * np.linalg.norm(x - y) + 1e-10 * case.problem.L


def test_half_of_the_smoothness_of_log_sum_exp_is_attained_by_two_opposite_terms():
    f = log_sum_exp([[3.0], [-3.0]], [0.0, 0.0], 0.5)
    np.testing.assert_allclose(f.L, 2 * 3.0**2 / 0.5)
    assert f.grad(np.array([1e-6])) / 1e-6 == pytest.approx(0.5 * f.L)
    assert f.mu == 0.0


@PROPERTY
@given(st.data())
def test_smoothness_of_log_sum_exp_is_the_largest_eigenvalue_over_the_temperature(data):
    A, rng = random_matrix(data.draw)
    rho = 10.0 ** data.draw(st.floats(-3.0, 3.0))
    problem = log_sum_exp(A, rng.normal(size=len(A)), rho)
    np.testing.assert_allclose(problem.L, np.linalg.eigvalsh(A.T @ A)[-1] / rho, 1e-12)


@PROPERTY
@given(random_log_sum_exp_cases(temperatures=(3.0, 30.0)))  # a cold one is flat up to rounding
def test_the_minimizer_of_the_random_log_sum_exp_is_the_only_one(case):
    H = torch.autograd.functional.hessian(case.formula, torch.tensor(case.problem.minimizer))
    eigenvalues = torch.linalg.eigvalsh(H)
    assert eigenvalues[0] > 1e-9 * eigenvalues[-1]
    assert case.problem.kappa == float("inf")


def test_a_log_sum_exp_of_no_more_terms_than_dimensions_is_flat_in_some_direction():
    formula = log_sum_exp_in_torch(np.eye(2) - 0.5, np.zeros(2), 1.0)  # the rows' mean is 0
    H = torch.autograd.functional.hessian(formula, torch.zeros(2, dtype=torch.float64))
    assert torch.linalg.eigvalsh(H)[0] == pytest.approx(0.0, abs=1e-15)


def test_the_minimum_of_the_random_log_sum_exp_is_the_closed_form_of_its_docstring():
    rho = 20.0
    f = random_log_sum_exp(5, 30, temperature=rho, seed=4)
    rng = np.random.default_rng(4)
    A, b = rng.normal(size=(30, 5)), rng.normal(size=30)
    terms = A @ f.minimizer - b
    weights = np.exp(terms / rho) / np.exp(terms / rho).sum()
    closed = rho * np.log(np.exp(terms / rho).sum()) - weights @ A @ f.minimizer
    assert f.minimum == pytest.approx(closed, rel=1e-13)
    assert np.abs(f.minimizer).max() > 0.1


@pytest.mark.parametrize("make", [lambda seed: random_log_sum_exp(3, 9, seed=seed), ten_weights])
def test_a_random_problem_is_reproducible_and_differs_between_seeds(make):
    a, b, c = (make(seed).grad(np.ones(make(seed).dimension)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


# --- logistic regression ------------------------------------------------------------------------


@PROPERTY
@given(st.data(), st.floats(0.0, 150.0))
def test_logistic_regression_stays_within_log_two_of_the_hinge_however_far_out(data, exponent):
    A, rng = random_matrix(data.draw)
    y, r = rng.choice([-1.0, 1.0], size=len(A)), data.draw(st.sampled_from([0.0, 1e-3]))
    problem = logistic_regression(A, y, r)
    theta = rng.normal(size=A.shape[1]) * 10.0**exponent
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, grad = problem.value(theta), problem.grad(theta)
    hinge = np.maximum(0.0, -y * (A @ theta)).mean() + 0.5 * r * (theta @ theta)
    assert hinge * (1.0 - 1e-14) <= value <= hinge * (1.0 + 1e-14) + np.log(2.0)
    assert (np.abs(grad - r * theta) <= np.abs(A).mean(0) + 1e-14 * r * np.abs(theta)).all()


@PROPERTY
@given(logistic_cases())
def test_smoothness_of_logistic_regression_is_attained_at_the_origin(case):
    origin = torch.zeros(case.problem.dimension, dtype=torch.float64)
    H = torch.autograd.functional.hessian(case.formula, origin)
    np.testing.assert_allclose(case.problem.L, torch.linalg.eigvalsh(H)[-1].item(), 1e-12)


@pytest.mark.parametrize("r", [0.0, 0.25])
def test_logistic_regression_is_no_more_curved_far_out_than_its_regularization(r):
    f = logistic_regression([[1.0, 2.0], [2.0, -1.0]], [1.0, -1.0], r)
    far, near = np.array([900.0, 300.0]), np.array([901.0, 300.0])
    np.testing.assert_allclose(f.grad(near) - f.grad(far), [r, 0.0], atol=1e-12)
    assert f.mu == r


def test_logistic_regression_has_a_smaller_loss_where_labels_are_met():
    f = logistic_regression([[1.0], [-2.0]], [1, -1], 0.0)
    assert f.value(np.array([1.0])) < np.log(2.0) < f.value(np.array([-1.0]))
    assert f.value(np.zeros(1)) == pytest.approx(np.log(2.0))


def test_the_digits_problem_has_the_constants_of_its_data():
    f = digits_logistic_regression()
    A, y = digits_data()
    assert A.shape == (1797, 65)
    assert (A.min(), A.max(), A[:, -1].min()) == (0.0, 1.0, 1.0)
    assert abs(y.mean()) < 0.02
    np.testing.assert_allclose(f.L, np.linalg.eigvalsh(A.T @ A)[-1] / (4 * 1797) + 1e-3)
    assert f.kappa == pytest.approx(2861.9, abs=0.1)


def test_strong_convexity_of_the_digits_problem_is_attained_at_a_blank_pixel():
    f = digits_logistic_regression()
    corner = np.eye(65)[0]
    np.testing.assert_allclose(f.grad(7.0 * corner) - f.grad(0.0 * corner), 7.0 * f.mu * corner)


@pytest.mark.parametrize("r", [1e-12, 1e-3, 1.0, 1e6])
def test_the_digits_problem_keeps_its_promise_of_a_short_gradient(r):
    f = digits_logistic_regression(r)
    assert np.linalg.norm(f.grad(f.minimizer)) <= classification.DIGITS_GRADIENT_NORM == 1e-12
    assert f.minimum == f.value(f.minimizer)
    assert f.mu == r


def test_the_minimizer_of_the_digits_problem_is_that_of_scikit_learn():
    f = digits_logistic_regression(1e-2)
    A, y = digits_data()
    model = LogisticRegression(
        C=1.0 / (1e-2 * len(A)), fit_intercept=False, solver="newton-cholesky", tol=1e-10
    ).fit(A, y)
    np.testing.assert_allclose(f.minimizer, model.coef_[0], atol=1e-7)
    assert f.minimum == pytest.approx(f.value(model.coef_[0]), abs=1e-12)


def test_a_minimizer_that_cannot_be_found_as_promised_is_refused(monkeypatch):
    monkeypatch.setattr(classification, "DIGITS_GRADIENT_NORM", -1.0)
    with pytest.raises(InputError, match=r"regularization 0\.125 leaves a gradient of .*1e-3$"):
        digits_logistic_regression(0.125)


def test_the_digits_problem_is_made_once_and_cannot_be_spoiled():
    f = digits_logistic_regression()
    assert digits_logistic_regression(np.float64(1e-3)) is f
    assert digits_logistic_regression(2e-3) is not f
    with pytest.raises(ValueError, match="read-only"):
        f.minimizer[0] = 1.0


@pytest.mark.parametrize("absent", ["sklearn.datasets", "scipy"])
def test_without_scikit_learn_the_digits_problem_says_what_to_install(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    message = r"^ngs\.problems\.digits.* needs scikit-learn: pip install 'ngs\[problems\]'$"
    with pytest.raises(ImportError, match=message):
        digits_logistic_regression(0.375)


def test_scikit_learn_is_imported_by_the_digits_problem_alone():
    code = (
        "import sys, ngs.problems as p\n"
        "p.logistic_regression([[1.0]], [1], 0.0), p.random_log_sum_exp(2, 4), p.ten_weights()\n"
        "print([name for name in ('sklearn', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "[]\n"
    assert {"sklearn", "scipy"} <= sys.modules.keys()


# --- least squares ------------------------------------------------------------------------------


@PROPERTY
@given(mean_squared_error_cases())
def test_constants_of_the_mean_squared_error_are_the_ends_of_the_spectrum(case):
    problem = case.problem
    values = np.linalg.eigvalsh(hessian(problem))
    room = 1e-12 * problem.L
    np.testing.assert_allclose([problem.mu, problem.L], [values[0], values[-1]], 1e-9, room)


@pytest.mark.parametrize(
    "features",
    [[[1.0, 2.0, 3.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [[0.1, 0.3], [0.7, 2.1], [0.3, 0.9]]],
    ids=["too few rows", "equal columns", "proportional columns"],
)
def test_dependent_columns_make_mu_zero_and_the_minimizer_the_shortest(features):
    A = np.array(features)
    b = np.arange(1.0, len(A) + 1.0)
    f = mean_squared_error(A, b)
    assert f.mu == 0.0
    assert f.kappa == float("inf")
    np.testing.assert_allclose(f.minimizer, np.linalg.pinv(A) @ b, atol=1e-12)


def test_the_minimum_of_the_mean_squared_error_is_what_no_line_explains():
    A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    f = mean_squared_error(A, [0.0, 3.0, 0.0])
    np.testing.assert_allclose(f.minimizer, [1.0, 0.0], atol=1e-14)
    assert f.minimum == pytest.approx((1.0 + 4.0 + 1.0) / 3.0)


def test_gradient_descent_finds_the_ten_weights():
    f = ten_weights()
    run = minimize(gradient_descent, f, np.zeros(10), lr=1.0 / f.L, steps=300)
    np.testing.assert_allclose(run.theta, f.minimizer, atol=1e-12)
    assert run.gaps[0] > 1.0
    assert (f.minimum, f.dimension) == (0.0, 10)
    assert np.abs(f.minimizer).min() > 1e-3


# --- what is unknown, what is kept, what is refused ---------------------------------------------

A_FEW = ([[1.0, 2.0], [-1.0, 0.5], [0.0, -1.0]], [1.0, -1.0, 1.0], 0.5)


@pytest.mark.parametrize("make", [log_sum_exp, logistic_regression])
def test_an_unknown_minimum_is_none_and_whoever_asks_for_it_is_refused(make):
    problem = make(*A_FEW)
    assert (problem.minimizer, problem.minimum) == (None, None)
    run = minimize(gradient_descent, problem, np.ones(2), lr=1.0 / problem.L, steps=20)
    assert run.values[-1] < run.values[0]
    with pytest.raises(InputError, match="minimum of this problem is unknown: look at values"):
        _ = run.gaps
    with pytest.raises(InputError, match=r"minimum of log.*, d=2 is unknown: leave target out"):
        minimize(gradient_descent, problem, np.ones(2), lr=0.1, target=1e-3)


def test_an_unknown_condition_number_is_refused_and_a_run_diverges_without_naming_a_limit():
    problem = rosenbrock()
    with pytest.raises(InputError, match="Rosenbrock, d=2 has no known condition number"):
        _ = problem.kappa
    run = minimize(gradient_descent, problem, [-1.2, 1.0], lr=1.0, steps=50)
    assert run.stop is Stop.DIVERGENCE
    assert "2/L" not in run.message
    run = minimize(gradient_descent, problem, [-1.2, 1.0], lr=1e-3, steps=50_000, target=1e-6)
    assert run.stop is Stop.TARGET


@pytest.mark.parametrize("make", [log_sum_exp, logistic_regression, mean_squared_error])
def test_a_problem_keeps_its_data_when_the_callers_arrays_change(make):
    rows, column = np.array(A_FEW[0]), np.array(A_FEW[1])
    problem = make(rows, column, *A_FEW[2:] if make is not mean_squared_error else ())
    before = problem.value(np.ones(2)), *problem.grad(np.ones(2))
    rows += 5.0
    column += 7.0
    assert (problem.value(np.ones(2)), *problem.grad(np.ones(2))) == before


TWO = [[1.0, 0.0], [0.0, 1.0]]


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
        (lambda: rosenbrock(1), "dimension must be 2 or more, got 1"),
        (lambda: log_sum_exp([1.0, 2.0], [0.0], 1.0), r"rows must have shape \(n, d\).*\(2,\)"),
        (lambda: log_sum_exp(np.ones((0, 2)), [], 1.0), r"n, d >= 1, got \(0, 2\)"),
        (lambda: log_sum_exp(np.ones((2, 0)), [1, 2], 1.0), r"n, d >= 1, got \(2, 0\)"),
        (lambda: log_sum_exp([["a"]], [0.0], 1.0), "rows must be an array of numbers: .*'a'"),
        (lambda: log_sum_exp([[1.0], [1.0, 2.0]], [0.0], 1.0), "rows must be an array of numbers"),
        (lambda: log_sum_exp([[1.0, np.inf]], [0.0], 1.0), "rows must be finite, got inf among"),
        (lambda: log_sum_exp([[0.0]], [0.0], 1.0), "rows must not all be 0"),
        (lambda: log_sum_exp(TWO, [0.0], 1.0), r"offsets must have shape \(2,\).*got \(1,\)"),
        (lambda: log_sum_exp(TWO, [0.0, np.nan], 1.0), "offsets must be finite, got nan"),
        (lambda: log_sum_exp(TWO, [0.0, 0.0], 0.0), "temperature must be .* above 0, got 0.0"),
        (lambda: log_sum_exp(TWO, [0.0, 0.0], np.inf), "temperature must be finite .* got inf"),
        (lambda: random_log_sum_exp(0, 5), "dimension must be 1 or more, got 0"),
        (lambda: random_log_sum_exp(3, 3), "terms must be more than dimension = 3, .*got 3"),
        (lambda: random_log_sum_exp(3, 5, temperature=-1.0), r"temperature .* got -1\.0"),
        (lambda: random_log_sum_exp(3, 5, seed=-1), "seed must be 0 or more, got -1"),
        (lambda: logistic_regression([1.0], [1], 0.0), r"features must have shape .*\(1,\)"),
        (lambda: logistic_regression(TWO, [1, -1, 1], 0.0), r"labels must have shape \(2,\)"),
        (lambda: logistic_regression(TWO, [0, 1], 0.0), r"-1 or \+1, got 0: map your two classes"),
        (lambda: logistic_regression(TWO, [1, -1], -0.1), r"at least 0, got -0\.1"),
        (lambda: logistic_regression(TWO, [1, -1], np.inf), "finite and at least 0, got inf"),
        (lambda: digits_logistic_regression(0.0), r"regularization must be .* above 0, got 0\.0"),
        (lambda: digits_logistic_regression(np.nan), "got nan"),
        (lambda: mean_squared_error([[np.nan]], [1.0]), "features must be finite, got nan"),
        (lambda: mean_squared_error(TWO, [[1.0, 2.0]]), r"targets must .*\(2,\).*got \(1, 2\)"),
        (lambda: ten_weights(-1), "seed must be 0 or more, got -1"),
        (lambda: ten_weights(samples=9), "samples must be 10 or more .* got 9"),
    ],
)
def test_a_bad_input_is_refused_with_what_was_given(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
