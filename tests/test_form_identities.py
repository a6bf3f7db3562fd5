"""One step of every form, proved for all numbers: the method objects run on SymPy symbols.

With equal starts this is an induction: the forms agree at every step.
"""

import pytest
import sympy

from ngs import conversions as convert
from ngs import methods
from ngs.methods import AnchorState, PairState, State

theta, velocity, grad, eta, eta_next, beta, beta_next = sympy.symbols(
    "theta velocity grad eta eta_next beta beta_next", nonzero=True
)
weight, weight_next, weight_after, root = sympy.symbols("lambda:3 root", positive=True)


def difference(some, others):
    """Return the simplified differences of two states, vector by vector."""
    return tuple(sympy.simplify(a - b) for a, b in zip(some, others, strict=True))


ahead_now = State(theta, velocity)
ahead_next = methods.nesterov.step(ahead_now, grad, eta, beta)
ZERO = (0, 0)


def test_one_symbolic_step_of_the_stored_form_is_one_of_the_lookahead_form():
    now = convert.stored_from_lookahead(ahead_now, beta)
    step = methods.nesterov_stored.step(now, grad, eta, beta, beta_next)
    assert difference(step, convert.stored_from_lookahead(ahead_next, beta_next)) == ZERO
    point = methods.nesterov_stored.gradient_point(now, beta, beta_next)
    assert sympy.expand(point - methods.nesterov.gradient_point(ahead_now, beta)) == 0
    iterate = methods.nesterov_stored.iterate(step, beta, beta_next)
    assert sympy.expand(iterate - ahead_next.theta) == 0


def test_one_symbolic_step_of_fista_is_one_of_the_lookahead_form():
    now = convert.fista_from_lookahead(ahead_now, beta)
    step = methods.fista.step(now, grad, eta, beta, beta_next)
    assert difference(step, convert.fista_from_lookahead(ahead_next, beta_next)) == ZERO
    point = methods.fista.gradient_point(now, beta, beta_next)
    assert sympy.expand(point - methods.nesterov.gradient_point(ahead_now, beta)) == 0


def test_one_symbolic_step_of_three_sequences_is_one_of_the_lookahead_form_for_any_weights():
    beta_now = (weight - 1) / weight_next
    beta_then = (weight_next - 1) / weight_after
    lr, *anchors = convert.anchor_coefficients_convex(eta, weight_next)
    now = convert.anchor_from_lookahead(ahead_now, anchors[0], beta_now)
    point = methods.three_sequences.gradient_point(now, *anchors)
    assert sympy.simplify(point - methods.nesterov.gradient_point(ahead_now, beta_now)) == 0
    step = methods.three_sequences.step(now, grad, lr, *anchors)
    expected = convert.anchor_from_lookahead(
        methods.nesterov.step(ahead_now, grad, eta, beta_now), 1 / weight_after, beta_then
    )
    assert difference(step, expected) == ZERO


def test_one_symbolic_step_of_three_sequences_is_one_of_the_lookahead_form_for_any_root():
    momentum = (root - 1) / (root + 1)
    lr, *anchors = convert.anchor_coefficients_strongly_convex(eta, root)
    now = convert.anchor_from_lookahead(ahead_now, anchors[0], momentum)
    point = methods.three_sequences.gradient_point(now, *anchors)
    assert sympy.simplify(point - methods.nesterov.gradient_point(ahead_now, momentum)) == 0
    step = methods.three_sequences.step(now, grad, lr, *anchors)
    expected = convert.anchor_from_lookahead(
        methods.nesterov.step(ahead_now, grad, eta, momentum), anchors[0], momentum
    )
    assert difference(step, expected) == ZERO


def test_one_symbolic_step_of_ogm_is_one_of_three_sequences_for_any_weights():
    now = AnchorState(theta, theta + velocity)
    lr, *anchors = convert.anchor_coefficients_optimized(eta, weight)
    after = methods.three_sequences.step(now, grad, lr, *anchors)
    pair = PairState(theta, methods.three_sequences.gradient_point(now, *anchors))
    step = methods.ogm.step(pair, grad, eta, (weight - 1) / weight_next, weight / weight_next)
    _, *anchors_next = convert.anchor_coefficients_optimized(eta, weight_next)
    point = methods.three_sequences.gradient_point(after, *anchors_next)
    assert difference(step, (after.theta, point)) == ZERO


def test_one_symbolic_step_of_triple_momentum_is_one_of_three_sequences_for_any_root():
    rho = 1 - 1 / root
    triple = (rho**2 / (2 - rho), rho**2 / ((1 + rho) * (2 - rho)), rho**2 / (1 - rho**2))
    lr, *anchors = convert.anchor_coefficients_triple(eta, root)

    def as_anchor(state):
        """The output is the anchor, and the gradient points of both coincide."""
        output = methods.triple_momentum.iterate(state, *triple)
        point = methods.triple_momentum.gradient_point(state, *triple)
        return AnchorState((point - anchors[0] * output) / (1 - anchors[0]), output)

    step = methods.triple_momentum.step(ahead_now, grad, (1 + rho) * eta, *triple)
    expected = methods.three_sequences.step(as_anchor(ahead_now), grad, lr, *anchors)
    assert difference(as_anchor(step), expected) == ZERO


@pytest.mark.parametrize("changes", ["nothing", "lr", "momentum"])
def test_one_symbolic_step_says_what_a_framework_may_change(changes):
    eta_then = eta_next if changes == "lr" else eta
    beta_then = beta_next if changes == "momentum" else beta
    now = convert.torch_from_lookahead(ahead_now, eta, beta)
    step = methods.torch_sgd.step(now, grad, eta, beta)
    torch_apart = difference(step, convert.torch_from_lookahead(ahead_next, eta_then, beta_then))
    assert (torch_apart == ZERO) == (changes == "nothing")
    now = convert.keras_from_lookahead(ahead_now, beta)
    step = methods.keras_sgd.step(now, grad, eta, beta)
    keras_apart = difference(step, convert.keras_from_lookahead(ahead_next, beta_then))
    assert (keras_apart == ZERO) == (changes != "momentum")
