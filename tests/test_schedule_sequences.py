"""The sequences of the theory and of deep learning against formulas written otherwise.

Fractions where the formula is rational, fifty digits where it has roots.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngs import conversions
from ngs.schedules import (
    AnchorMomentum,
    ChambolleDossalMomentum,
    ConvexAnchor,
    NesterovMomentum,
    OptimizedCoefficients,
    OptimizedMomentum,
    SimplifiedMomentum,
    StronglyConvexAnchor,
    StronglyConvexMomentum,
    SutskeverMomentum,
    TripleCoefficients,
    TripleMomentum,
    nesterov_lambda,
)

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)

steps_far_and_near = st.one_of(st.integers(0, 50), st.integers(0, 10**6))


# --- Nesterov's lambda and what is built on it --------------------------------------------------


def roots(k: int, factor: int = 4, start: Decimal = Decimal(1)) -> list[Decimal]:
    """Return x_1 .. x_k of x_{i+1} = (1 + sqrt(1 + factor x_i^2)) / 2 to fifty digits."""
    with localcontext() as context:
        context.prec = 50
        found = [start]
        while len(found) < k:
            found.append((1 + (1 + factor * found[-1] ** 2).sqrt()) / 2)
        return found


def test_lambda_starts_at_one_and_obeys_its_recurrence():
    assert nesterov_lambda(1) == 1.0
    for k in range(1, 300):
        # lambda_{k+1}^2 - lambda_{k+1} = lambda_k^2, the form the proof of the rate uses
        new = nesterov_lambda(k + 1)
        assert new > nesterov_lambda(k)
        assert new * (new - 1.0) == pytest.approx(nesterov_lambda(k) ** 2, rel=1e-12)


def test_lambda_is_the_sequence_computed_to_fifty_digits():
    for k, exact in enumerate(roots(2000), start=1):
        assert nesterov_lambda(k) == pytest.approx(float(exact), rel=1e-13)


def test_lambda_grows_at_least_as_half_of_k_plus_one():
    assert all(nesterov_lambda(k) >= (k + 1) / 2 for k in range(1, 2000))


def test_nesterov_momentum_is_the_quotient_of_the_recurrence_computed_afresh():
    exact = [None, *roots(103)]
    schedule = NesterovMomentum()
    assert schedule(0) == 0.0
    for t in range(1, 101):
        assert schedule(t) == pytest.approx(
            float((exact[t] - 1) / exact[t + 1]), rel=1e-13, abs=0.0
        )


def test_nesterov_momentum_does_not_depend_on_the_order_of_the_questions():
    late_first = [NesterovMomentum()(t) for t in (500, 3, 499, 1)]
    assert late_first == [NesterovMomentum()(t) for t in (500, 3, 499, 1)]
    assert late_first[1] < late_first[2] < late_first[0]


def test_nesterov_momentum_rises_from_zero_towards_one():
    values = [NesterovMomentum()(t) for t in range(1000)]
    assert values[:2] == [0.0, 0.0]
    assert all(a < b for a, b in pairwise(values[1:]))
    assert 1.0 - 4.0 / 1000 < values[-1] < 1.0


def test_convex_anchor_has_lambda_of_the_next_number_and_its_inverse():
    for t, exact in enumerate(roots(200)):
        mixing, pull, stride = ConvexAnchor()(t)
        assert stride == pytest.approx(float(exact), rel=1e-13)
        assert mixing == pytest.approx(float(1 / exact), rel=1e-13)
        assert pull == 0.0
        assert (0.1, *ConvexAnchor()(t)) == conversions.anchor_coefficients_convex(
            0.1, nesterov_lambda(t + 1)
        )


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_optimized_momentum_is_kim_and_fesslers_with_its_special_last_step(steps):
    theta = roots(steps)
    theta.append(roots(2, factor=8, start=theta[-1])[-1])
    schedule = OptimizedMomentum(steps)
    for i in range(steps):
        momentum, correction = schedule(i)
        assert momentum == pytest.approx(float((theta[i] - 1) / theta[i + 1]), rel=1e-13, abs=0.0)
        assert correction == pytest.approx(float(theta[i] / theta[i + 1]), rel=1e-13, abs=0.0)
    assert [schedule.weight(i) for i in range(steps + 1)] == pytest.approx(
        [float(x) for x in theta], rel=1e-13
    )


@pytest.mark.parametrize(("steps", "worst"), [(1, 0.125), (5, 0.01859), (10, 0.00629)])
def test_the_last_weight_of_optimized_momentum_gives_the_known_worst_case(steps, worst):
    assert 1.0 / (2.0 * OptimizedMomentum(steps).weight(steps) ** 2) == pytest.approx(
        worst, rel=1e-3
    )


def test_the_last_step_of_optimized_momentum_is_not_that_of_a_longer_run():
    short, long = OptimizedMomentum(10), OptimizedMomentum(11)
    assert [short(t) == long(t) for t in range(10)] == [True] * 9 + [False]


# --- sequences in closed form ---------------------------------------------------------------------


@PROPERTY
@given(steps_far_and_near)
def test_simplified_momentum_is_its_fraction(t):
    assert SimplifiedMomentum()(t) == float(max(Fraction(0), Fraction(t - 1, t + 2)))


def test_simplified_momentum_is_zero_for_two_steps_and_then_a_quarter():
    assert [SimplifiedMomentum()(t) for t in range(4)] == [0.0, 0.0, 0.25, 0.4]


@PROPERTY
@given(steps_far_and_near)
def test_chambolle_and_dossals_momentum_with_two_is_the_simplified_one(t):
    assert ChambolleDossalMomentum(2.0)(t) == SimplifiedMomentum()(t)


def dossal_lambda(k: int, a: Fraction) -> Fraction:
    return (k + a - 1) / a


dyadics = st.integers(16, 160).map(lambda n: Fraction(n, 8))


@PROPERTY
@given(dyadics, st.integers(1, 10**6))
def test_chambolle_and_dossals_momentum_is_the_quotient_of_their_lambda(a, t):
    exact = (dossal_lambda(t, a) - 1) / dossal_lambda(t + 1, a)
    schedule = ChambolleDossalMomentum(float(a))
    assert schedule(t) == pytest.approx(float(exact), rel=1e-15, abs=0.0)
    assert schedule(0) == schedule(1) == 0.0


@PROPERTY
@given(dyadics, st.integers(1, 10**6))
def test_chambolle_and_dossals_lambda_obeys_the_inequality_of_the_proof(a, k):
    new, old = dossal_lambda(k + 1, a), dossal_lambda(k, a)
    assert new**2 - new <= old**2
    assert dossal_lambda(1, a) == 1


@PROPERTY
@given(st.integers(1, 15).map(lambda n: Fraction(n, 8)))
def test_the_inequality_of_the_proof_fails_in_the_end_below_two(a):
    new, old = dossal_lambda(10**4 + 1, a), dossal_lambda(10**4, a)
    assert new**2 - new > old**2


@PROPERTY
@given(st.floats(1.0, 1e12))
def test_strongly_convex_momentum_solves_for_the_root_of_kappa(kappa):
    beta = StronglyConvexMomentum(kappa)(0)
    assert 0.0 <= beta < 1.0
    assert (1.0 + beta) / (1.0 - beta) == pytest.approx(math.sqrt(kappa), rel=1e-8)


def test_strongly_convex_momentum_is_the_same_at_every_step():
    schedule = StronglyConvexMomentum(9.0)
    assert [schedule(t) for t in (0, 1, 1000)] == [0.5] * 3


rational_roots = st.integers(8, 800).map(lambda n: Fraction(n, 8))


@PROPERTY
@given(rational_roots, st.integers(0, 1000))
def test_strongly_convex_anchor_has_its_three_constants(root, t):
    mixing, pull, stride = StronglyConvexAnchor(float(root**2))(t)
    assert stride == float(root)
    assert pull == float(1 / root)
    assert mixing == float(1 / (1 + root))
    expected = conversions.anchor_coefficients_strongly_convex(0.1, float(root))
    assert (0.1, mixing, pull, stride) == expected


@PROPERTY
@given(rational_roots, st.integers(0, 1000))
def test_triple_momentum_is_that_of_van_scoy_freeman_and_lynch(root, t):
    rho = 1 - 1 / root
    schedule = TripleMomentum(float(root**2))
    momentum, peek, output = schedule(t)
    assert momentum == pytest.approx(float(rho**2 / (2 - rho)), rel=1e-12, abs=0.0)
    assert peek == pytest.approx(float(rho**2 / (1 + rho) / (2 - rho)), rel=1e-12, abs=0.0)
    assert output == pytest.approx(float(rho**2 / (1 - rho**2)), rel=1e-12, abs=0.0)
    assert schedule.step_size(4.0) == pytest.approx(float((1 + rho) / 4), rel=1e-12, abs=0.0)


def test_triple_momentum_at_condition_number_one_is_gradient_descent_with_step_one_over_l():
    assert TripleMomentum(1.0)(0) == (0.0, 0.0, 0.0)
    assert TripleMomentum(1.0).step_size(5.0) == 0.2


def test_several_coefficients_carry_their_names():
    assert OptimizedMomentum(1)(0) == OptimizedCoefficients(momentum=0.0, correction=0.5)
    assert isinstance(OptimizedMomentum(1)(0), OptimizedCoefficients)
    assert isinstance(TripleMomentum(4.0)(0), TripleCoefficients)
    assert isinstance(ConvexAnchor()(0), AnchorMomentum)
    assert isinstance(StronglyConvexAnchor(4.0)(0), AnchorMomentum)


def sutskever(t: int, maximum: float) -> float:
    """The formula as the paper prints it."""
    return min(1.0 - 2.0 ** (-1.0 - math.log2(math.floor(t / 250) + 1)), maximum)


@PROPERTY
@given(steps_far_and_near, st.sampled_from([0.999, 0.995, 0.99, 0.9, 0.0]))
def test_sutskevers_momentum_is_the_formula_of_the_paper(t, maximum):
    assert SutskeverMomentum(maximum)(t) == pytest.approx(sutskever(t, maximum), rel=1e-13)


def test_sutskevers_momentum_stays_250_steps_on_each_fraction():
    schedule = SutskeverMomentum(0.999)
    for n, value in enumerate([0.5, 0.75, 1 - 1 / 6, 1 - 1 / 8, 0.9]):
        assert [schedule(t) for t in (250 * n, 250 * n + 249)] == pytest.approx([value] * 2)


def test_sutskevers_momentum_drops_to_the_papers_value_for_its_last_1000_steps():
    with_drop, without = SutskeverMomentum(0.995, total=750_000), SutskeverMomentum(0.995)
    for t in (0, 249, 250, 12_345, 748_998, 748_999):
        assert with_drop(t) == without(t)
    assert {with_drop(t) for t in (749_000, 749_001, 749_999)} == {0.9}
    assert without(749_000) == 0.995


@PROPERTY
@given(st.integers(0, 3000), st.integers(0, 3000), st.floats(0.0, 0.99))
def test_sutskevers_final_steps_are_as_many_as_asked_for_and_never_raise(total, last, final):
    last = min(last, total)
    schedule = SutskeverMomentum(0.99, total=total, final_steps=last, final=final)
    for t in {0, total - last - 1, total - last, total - 1} & set(range(total)):
        expected = sutskever(t, 0.99)
        if t >= total - last:
            expected = min(expected, final)
        assert schedule(t) == pytest.approx(expected, rel=1e-13)


def test_a_final_coefficient_above_the_present_one_changes_nothing():
    assert SutskeverMomentum(0.9, total=100, final_steps=100, final=0.8)(0) == 0.5
