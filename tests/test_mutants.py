"""Every way to break a method that we could think of, and that the shared checks catch each one.

A mutation takes a method and returns it broken, or None where it would change nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from method_checks import CHECKS

from ngs.methods import METHODS, Method, State, here, lookahead


def sign_of_gradient(method: Method) -> Method:
    return method._replace(step=lambda s, g, lr, beta: method.step(s, -g, lr, beta))


def sign_of_momentum(method: Method) -> Method | None:
    if not method.uses_momentum:
        return None
    return method._replace(step=lambda s, g, lr, beta: method.step(s, g, lr, -beta))


def momentum_forgotten(method: Method) -> Method | None:
    if not method.uses_momentum:
        return None
    return method._replace(step=lambda s, g, lr, beta: method.step(s, g, lr, 0 * beta))


def gradient_at_the_previous_iterate(method: Method) -> Method:
    return method._replace(gradient_point=lambda s, beta: s.theta - s.velocity)


def gradient_at_the_other_point(method: Method) -> Method:
    other = here if method.gradient_point is lookahead else lookahead
    return method._replace(gradient_point=other)


def lookahead_with_the_wrong_sign(method: Method) -> Method | None:
    if method.gradient_point is not lookahead:
        return None
    return method._replace(gradient_point=lambda s, beta: s.theta - beta * s.velocity)


def lookahead_without_the_coefficient(method: Method) -> Method | None:
    if method.gradient_point is not lookahead:
        return None
    return method._replace(gradient_point=lambda s, beta: s.theta + s.velocity)


def iterate_moved_before_the_velocity(method: Method) -> Method:
    def step(s, g, lr, beta):
        return State(s.theta + s.velocity, method.step(s, g, lr, beta).velocity)

    return method._replace(step=step)


def momentum_multiplies_the_gradient_too(method: Method) -> Method:
    return method._replace(step=lambda s, g, lr, beta: method.step(s, beta * g, lr, beta))


def gradient_damped_as_in_a_running_mean(method: Method) -> Method:
    return method._replace(step=lambda s, g, lr, beta: method.step(s, (1 - beta) * g, lr, beta))


def velocity_never_stored(method: Method) -> Method:
    def step(s, g, lr, beta):
        return State(method.step(s, g, lr, beta).theta, s.velocity)

    return method._replace(step=step)


def velocity_without_the_step_size(method: Method) -> Method:
    """The velocity that frameworks keep, in units of the gradient."""

    def step(s, g, lr, beta):
        new = method.step(s, g, lr, beta)
        return State(new.theta, (s.theta - new.theta) * (1 / lr))

    return method._replace(step=step)


def state_changed_in_place(method: Method) -> Method:
    def step(s, g, lr, beta):
        new = method.step(s, g, lr, beta)
        theta = s.theta
        theta += new.velocity  # on fractions this makes a new object, on arrays it writes
        return State(theta, new.velocity)

    return method._replace(step=step)


MUTATIONS: tuple[Callable[[Method], Method | None], ...] = (
    sign_of_gradient,
    sign_of_momentum,
    momentum_forgotten,
    gradient_at_the_previous_iterate,
    gradient_at_the_other_point,
    lookahead_with_the_wrong_sign,
    lookahead_without_the_coefficient,
    iterate_moved_before_the_velocity,
    momentum_multiplies_the_gradient_too,
    gradient_damped_as_in_a_running_mean,
    velocity_never_stored,
    velocity_without_the_step_size,
    state_changed_in_place,
)


class Mutant(NamedTuple):
    label: str
    method: Method


MUTANTS = [
    Mutant(f"{method.name}: {mutation.__name__}", broken)
    for method in METHODS.values()
    for mutation in MUTATIONS
    if (broken := mutation(method)) is not None
]


def caught_by(method: Method) -> list[str]:
    """Return the names of the checks that a method fails."""
    failed = []
    for check in CHECKS:
        try:
            check(method)
        except AssertionError:
            failed.append(check.__name__)
    return failed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.label)
def test_every_mutant_is_caught(mutant):
    assert caught_by(mutant.method)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_true_methods_are_let_through(method):
    assert caught_by(method) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_catches_a_mutant(check):
    assert any(check.__name__ in caught_by(mutant.method) for mutant in MUTANTS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_mutation_breaks_a_method(mutation):
    assert any(mutation(method) is not None for method in METHODS.values())
