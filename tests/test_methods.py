"""The update rules: the same on every kind of number, where their gradients are taken, purity.

What holds of every method is in method_checks; test_mutants shows that those checks can fail.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from method_checks import (
    CHECKS,
    COURSE,
    HAND_COMPUTED,
    THETA,
    exact_run,
    fractions,
    rows,
    run,
    slope,
    state_of,
)
from method_oracles import ORACLES, Course
from PEPit import Point

import ngs.methods
from ngs.methods import METHODS, Method, State

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())

STARTS = [7.0 / 3.0, -2.0, 0.1]

DYADIC = Course(
    fractions("1/2", "1/8", "1/4", "1/2"),
    {
        "momentum": fractions("1/4", "1/2", "3/4", "1/8", "1/2"),
        "correction": fractions("1/2", "1/4", "1/8", "3/4", "1"),
        "peek": fractions("1/8", "3/4", "1/2", "1/4", "1"),
        "output": fractions("3/4", "1/8", "1/4", "1/2", "1"),
        "mixing": fractions("1/4", "3/4", "1/2", "1/8", "1"),
        "pull": fractions("1/2", "1/8", "1/4", "3/4", "1"),
        "stride": fractions("2", "3", "3/2", "5/2", "1"),
    },
)
"""Powers of two and sums of a few are exact as floats."""


def converted(course: Course, number: Callable[[Fraction], Any]) -> Course:
    values = {name: [number(x) for x in row] for name, row in course.values.items()}
    return Course([number(x) for x in course.rates], values)


FLOATS = converted(COURSE, float)


def positions(method: Method, theta, course=FLOATS, grad=slope) -> list:
    """Return all gradient points, then all iterates."""
    found = run(method, theta, grad, rows(method, course))
    return [*found.points, *found.iterates]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@every_method
def test_every_method_passes_every_check(method, check):
    check(method)


@every_method
def test_python_floats_follow_the_exact_fractions(method):
    exact = [float(x) for x in positions(method, THETA, COURSE)]
    assert positions(method, float(THETA)) == pytest.approx(exact, rel=1e-14, abs=1e-15)


@every_method
def test_numpy_arrays_give_the_numbers_of_python_floats(method):
    by_coordinate = np.array([positions(method, x) for x in STARTS]).T
    np.testing.assert_array_equal(np.array(positions(method, np.array(STARTS))), by_coordinate)


@every_method
def test_torch_tensors_give_the_numbers_of_python_floats(method):
    by_coordinate = torch.tensor([positions(method, x) for x in STARTS], dtype=torch.float64).T
    found = torch.stack(positions(method, torch.tensor(STARTS, dtype=torch.float64)))
    assert found.dtype == torch.float64
    assert torch.equal(found, by_coordinate)


@every_method
def test_sympy_expressions_take_the_numbers_of_fractions(method):
    theta = sympy.Symbol("theta")
    symbols = Course(
        sympy.symbols(f"eta:{len(COURSE.rates)}"),
        {name: sympy.symbols(f"{name}:{len(row)}") for name, row in COURSE.values.items()},
    )
    values = {theta: sympy.Rational(THETA)}
    values |= dict(zip(symbols.rates, map(sympy.Rational, COURSE.rates), strict=True))
    for name, row in symbols.values.items():
        values |= dict(zip(row, map(sympy.Rational, COURSE.values[name]), strict=True))
    expressions = positions(method, theta, symbols)
    exact = [sympy.Rational(x) for x in positions(method, THETA, COURSE)]
    assert [sympy.sympify(e).subs(values) for e in expressions] == exact


def shares(found: Point) -> dict[Point, float]:
    """Return the leaves that a PEPit point is made of, without those multiplied by zero."""
    return {leaf: value for leaf, value in found.decomposition_dict.items() if value != 0}


@every_method
def test_pepit_points_decompose_with_the_coefficients_that_sympy_finds(method):
    leaves = [Point() for _ in range(5)]
    symbols = sympy.symbols("theta g0:4")

    def last_iterate(theta, grads, number):
        remaining = iter(grads)
        course = converted(DYADIC, number)
        return positions(method, theta, course, grad=lambda point: next(remaining))[-1]

    found = last_iterate(leaves[0], leaves[1:], float)
    expected = sympy.expand(last_iterate(symbols[0], symbols[1:], sympy.Rational))
    assert shares(found) == {
        leaf: float(expected.coeff(s)) for leaf, s in zip(leaves, symbols, strict=True)
    }


@every_method
def test_pepit_gradient_points_and_iterates_decompose_as_sympy_says(method):
    leaves, symbols = [Point(), Point()], sympy.symbols("first second")
    for function in (method.gradient_point, method.iterate):
        _, *floats = rows(method, converted(DYADIC, float))[1]
        _, *rationals = rows(method, converted(DYADIC, sympy.Rational))[1]
        found = function(state_of(method, *leaves), *floats)
        point = sympy.expand(function(state_of(method, *symbols), *rationals))
        expected = {leaf: point.coeff(s) for leaf, s in zip(leaves, symbols, strict=True)}
        assert shares(found) == {leaf: float(x) for leaf, x in expected.items() if x != 0}


@pytest.mark.parametrize(
    ("name", "coefficient"),
    [
        ("heavy_ball", "momentum"),
        ("nesterov", "momentum"),
        ("nesterov_stored", "momentum"),
        ("fista", "momentum"),
        ("three_sequences", "mixing"),
        ("torch_sgd", "momentum"),
        ("keras_sgd", "momentum"),
    ],
)
def test_without_momentum_or_mixing_alone_a_method_is_gradient_descent(name, coefficient):
    zeros = COURSE.values | {coefficient: [Fraction(0)] * 5}
    course = Course(COURSE.rates, zeros)
    expected = positions(METHODS["gradient_descent"], THETA, course)
    assert positions(METHODS[name], THETA, course) == expected


@pytest.mark.parametrize("name", ["ogm", "triple_momentum"])
def test_a_correction_or_a_peek_is_left_where_the_momentum_is_zero(name):
    course = Course(COURSE.rates, COURSE.values | {"momentum": [Fraction(0)] * 5})
    expected = positions(METHODS["gradient_descent"], THETA, course)
    assert positions(METHODS[name], THETA, course) != expected


def test_every_coefficient_changes_something_but_the_momentum_that_fistas_point_holds_already():
    idle = []
    for method in METHODS.values():
        steps = rows(method, COURSE)
        for i, name in enumerate(method.coefficients, start=1):
            others = [(*row[:i], row[i] / 2, *row[i + 1 :]) for row in steps]
            if run(method, THETA, slope, others) == run(method, THETA, slope, steps):
                idle.append((method.name, name))
    assert idle == [("fista", "momentum")]


def test_nesterov_takes_the_gradient_at_the_lookahead_point():
    state = State(theta=Fraction(5), velocity=Fraction(2))
    assert METHODS["nesterov"].gradient_point(state, Fraction(1, 4)) == Fraction(11, 2)


@pytest.mark.parametrize("name", ["gradient_descent", "heavy_ball"])
def test_gradient_descent_and_heavy_ball_take_the_gradient_at_the_iterate(name):
    state = State(theta=Fraction(5), velocity=Fraction(2))
    coefficients = [Fraction(1, 4) for _ in METHODS[name].coefficients]
    assert METHODS[name].gradient_point(state, *coefficients) == 5


def test_hand_computed_trajectories_tell_all_methods_apart_but_the_forms_of_nesterovs():
    assert HAND_COMPUTED.keys() == METHODS.keys()
    by_trajectory: dict[tuple, set] = {}
    for name, trajectory in HAND_COMPUTED.items():
        by_trajectory.setdefault(trajectory, set()).add(name)
    alike = [names for names in by_trajectory.values() if len(names) > 1]
    assert alike == [{"nesterov", "nesterov_stored", "fista"}]


def test_every_method_has_an_oracle_of_its_own():
    assert ORACLES.keys() == METHODS.keys()
    assert len(set(ORACLES.values())) == len(METHODS)


@every_method
def test_methods_run_on_read_only_arrays(method):
    vectors = np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([4.0, 0.25])
    for array in vectors:
        array.flags.writeable = False
    for theta in vectors:
        positions(method, theta)
    lr, *coefficients = rows(method, FLOATS)[1]
    state = state_of(method, *vectors[:2])
    method.gradient_point(state, *coefficients)
    method.iterate(state, *coefficients)
    method.step(state, vectors[2], lr, *coefficients)


@every_method
def test_methods_leave_tensors_unwritten(method):
    tensors = [torch.ones(2), torch.ones(2), torch.ones(2), torch.ones(2)]
    lr, *coefficients = rows(method, FLOATS)[1]
    for state in (state_of(method, *tensors[:2]), method.start(tensors[2])):
        method.gradient_point(state, *coefficients)
        method.iterate(state, *coefficients)
        method.step(state, tensors[3], lr, *coefficients)
    assert [t._version for t in tensors] == [0, 0, 0, 0]


@every_method
def test_start_is_of_the_kind_it_was_given(method):
    for first, second in (method.start(np.ones((2, 3))), method.start(torch.ones(2, 3))):
        assert type(first) is type(second)
        assert first.shape == second.shape == (2, 3)
    assert all(isinstance(x, Fraction) for state in exact_run(method).states for x in state)


@every_method
def test_the_registry_knows_each_method_by_its_own_name(method):
    assert METHODS[method.name] is method
    assert getattr(ngs.methods, method.name) is method


def test_every_method_of_the_module_is_registered():
    found = {name for name, thing in vars(ngs.methods).items() if isinstance(thing, Method)}
    assert found == METHODS.keys()


@every_method
def test_functions_take_the_coefficients_that_the_method_names_in_their_order(method):
    leading = {
        method.gradient_point: ["state"],
        method.step: ["state", "grad", "lr"],
        method.iterate: ["state"],
    }
    for function, names in leading.items():
        parameters = list(inspect.signature(function).parameters.values())
        if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
            assert [p.name for p in parameters] == [*names, "coefficients"]
        else:
            assert [p.name for p in parameters] == [*names, *method.coefficients]
        assert all(p.default is inspect.Parameter.empty for p in parameters)
    assert list(inspect.signature(method.start).parameters) == ["theta"]


@every_method
def test_a_coefficient_of_the_next_step_follows_one_of_this_step(method):
    following = [x.removeprefix("next_") for x in method.coefficients if x.startswith("next_")]
    current = [x for x in method.coefficients if not x.startswith("next_")]
    assert following in ([], current)
    assert method.coefficients[: len(current)] == tuple(current)


def test_the_update_rules_import_the_standard_library_alone():
    tree = ast.parse(inspect.getsource(ngs.methods))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import stays inside ngs"
            imported.add(node.module)
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
