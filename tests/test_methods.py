"""The update rules: the same on every kind of number, where their gradients are taken, purity.

What holds of every method is in method_checks; test_mutants shows that those checks can fail.
"""

import ast
import inspect
import sys
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from method_checks import CHECKS, COEFFICIENTS, HAND_COMPUTED, THETA, run, slope
from PEPit import Point

import ngs.methods
from ngs.methods import METHODS, Method, State, start

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())

FLOATS = [(float(lr), float(momentum)) for lr, momentum in COEFFICIENTS]
STARTS = [7.0 / 3.0, -2.0, 0.1]


def thetas(method: Method, theta, coefficients=FLOATS, grad=slope) -> list:
    return [state.theta for state in run(method, theta, grad, coefficients)[0]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@every_method
def test_every_method_passes_every_check(method, check):
    check(method)


@every_method
def test_python_floats_follow_the_exact_fractions(method):
    exact = [float(theta) for theta in thetas(method, THETA, COEFFICIENTS)]
    assert thetas(method, float(THETA)) == pytest.approx(exact, rel=1e-13)


@every_method
def test_numpy_arrays_give_the_numbers_of_python_floats(method):
    by_coordinate = np.array([thetas(method, x) for x in STARTS]).T
    np.testing.assert_array_equal(np.array(thetas(method, np.array(STARTS))), by_coordinate)


@every_method
def test_torch_tensors_give_the_numbers_of_python_floats(method):
    by_coordinate = torch.tensor([thetas(method, x) for x in STARTS], dtype=torch.float64).T
    found = torch.stack(thetas(method, torch.tensor(STARTS, dtype=torch.float64)))
    assert found.dtype == torch.float64
    assert torch.equal(found, by_coordinate)


@every_method
def test_sympy_expressions_take_the_numbers_of_fractions(method):
    theta = sympy.Symbol("theta")
    names = [sympy.symbols(f"eta{t} beta{t}") for t in range(len(COEFFICIENTS))]
    values = {theta: sympy.Rational(THETA)}
    for symbols, numbers in zip(names, COEFFICIENTS, strict=True):
        values |= {s: sympy.Rational(x) for s, x in zip(symbols, numbers, strict=True)}
    expressions = thetas(method, theta, names)
    exact = [sympy.Rational(x) for x in thetas(method, THETA, COEFFICIENTS)]
    assert [sympy.sympify(e).subs(values) for e in expressions] == exact


@every_method
def test_pepit_points_decompose_with_the_coefficients_that_sympy_finds(method):
    # Powers of two are exact as floats, so the coefficients must agree to the last bit.
    coefficients = [(0.5, 0.25), (0.125, 0.5), (0.25, 0.75), (0.5, 0.5)]
    leaves = [Point() for _ in range(5)]
    symbols = sympy.symbols("theta g0:4")

    def last_iterate(theta, grads, numbers):
        remaining = iter(grads)
        return thetas(method, theta, numbers, grad=lambda point: next(remaining))[-1]

    found = last_iterate(leaves[0], leaves[1:], coefficients).decomposition_dict
    rationals = [(sympy.Rational(lr), sympy.Rational(beta)) for lr, beta in coefficients]
    expected = sympy.expand(last_iterate(symbols[0], symbols[1:], rationals))
    assert {leaf: value for leaf, value in found.items() if value != 0} == {
        leaf: float(expected.coeff(s)) for leaf, s in zip(leaves, symbols, strict=True)
    }


@every_method
def test_pepit_gradient_points_decompose_as_sympy_says(method):
    leaves = [Point(), Point()]
    theta, velocity = sympy.symbols("theta velocity")
    found = method.gradient_point(State(*leaves), 0.75).decomposition_dict
    point = method.gradient_point(State(theta, velocity), sympy.Rational(3, 4))
    expected = {leaves[0]: point.coeff(theta), leaves[1]: point.coeff(velocity)}
    assert found == {leaf: float(value) for leaf, value in expected.items() if value != 0}


@pytest.mark.parametrize("name", ["heavy_ball", "nesterov"])
def test_zero_momentum_makes_a_momentum_method_gradient_descent(name):
    coefficients = [(lr, 0.0) for lr, _ in FLOATS]
    theta = np.array(STARTS)
    np.testing.assert_array_equal(
        thetas(METHODS[name], theta, coefficients),
        thetas(METHODS["gradient_descent"], theta, coefficients),
    )


def test_gradient_descent_pays_no_heed_to_momentum():
    method = METHODS["gradient_descent"]
    without = [(lr, 0.0) for lr, _ in FLOATS]
    assert thetas(method, 1.0) == thetas(method, 1.0, without)


@every_method
def test_uses_momentum_says_whether_momentum_changes_anything(method):
    without = [(lr, 0.0) for lr, _ in FLOATS]
    assert (thetas(method, 1.0) != thetas(method, 1.0, without)) == method.uses_momentum


def test_nesterov_takes_the_gradient_at_the_lookahead_point():
    state = State(theta=Fraction(5), velocity=Fraction(2))
    assert METHODS["nesterov"].gradient_point(state, Fraction(1, 4)) == Fraction(11, 2)


@pytest.mark.parametrize("name", ["gradient_descent", "heavy_ball"])
def test_gradient_descent_and_heavy_ball_take_the_gradient_at_the_iterate(name):
    assert (
        METHODS[name].gradient_point(State(theta=Fraction(5), velocity=Fraction(2)), Fraction(1, 4))
        == 5
    )


def test_the_three_methods_differ_in_the_hand_computed_trajectories():
    assert HAND_COMPUTED.keys() == METHODS.keys()
    assert len({tuple(x) for x in HAND_COMPUTED.values()}) == len(METHODS)


@every_method
def test_methods_run_on_read_only_arrays_and_leave_tensors_unwritten(method):
    state = State(np.array([1.0, -2.0]), np.array([0.5, 3.0]))
    grad = np.array([4.0, 0.25])
    for array in (*state, grad):
        array.flags.writeable = False
    method.gradient_point(state, 0.5)
    method.step(state, grad, 0.25, 0.5)

    tensors = [torch.ones(2), torch.ones(2), torch.ones(2)]
    method.gradient_point(State(*tensors[:2]), 0.5)
    method.step(State(*tensors[:2]), tensors[2], 0.25, 0.5)
    assert [t._version for t in tensors] == [0, 0, 0]


def test_start_is_at_rest_and_of_the_kind_it_was_given():
    state = start(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(state.velocity, np.zeros(2))
    assert start(torch.ones(3)).velocity.shape == (3,)


@every_method
def test_the_registry_knows_each_method_by_its_own_name(method):
    assert METHODS[method.name] is method
    assert getattr(ngs.methods, method.name) is method


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
