"""The bounds of `ngs.theory` against each other, and certificates against the bounds."""

import sys

import pytest

from ngs import methods, theory
from ngs.errors import InputError
from ngs.schedules import NesterovMomentum

STEPS = (1, 5, 10)


@pytest.mark.parametrize("k", STEPS)
def test_certificate_of_gradient_descent_equals_its_tight_bound(k):
    found = theory.certify(methods.gradient_descent, k)
    assert found == pytest.approx(theory.gradient_descent_bound(k), rel=1e-3)


# Exact worst cases computed once by performance estimation; they pin the index of the schedule.
@pytest.mark.parametrize(("k", "worst"), [(1, 0.16667), (5, 0.03489), (10, 0.01234)])
def test_certificate_of_nesterov_stays_below_its_bound(k, worst):
    found = theory.certify(methods.nesterov, k, momentum=NesterovMomentum())
    assert found == pytest.approx(worst, rel=1e-3)
    assert theory.lower_bound(k) <= found <= theory.nesterov_bound(k)


def test_heavy_ball_with_the_same_coefficients_breaks_the_bound():
    found = theory.certify(methods.heavy_ball, 10, momentum=NesterovMomentum())
    assert found > theory.nesterov_bound(10)


def test_certificates_scale_with_smoothness():
    one, four = (theory.certify(methods.gradient_descent, 3, L=L) for L in (1.0, 4.0))
    assert four == pytest.approx(4.0 * one, rel=1e-3)


@pytest.mark.parametrize("k", [1, 2, 10, 1000])
def test_bounds_are_ordered_and_scale_as_stated(k):
    assert theory.lower_bound(k) < theory.nesterov_bound(k) <= 2.0 / (k + 1) ** 2
    for bound in (theory.gradient_descent_bound, theory.nesterov_bound, theory.lower_bound):
        assert bound(k, L=3.0, R=2.0) == pytest.approx(12.0 * bound(k))


def test_certify_needs_a_step():
    with pytest.raises(InputError, match="got 0"):
        theory.certify(methods.nesterov, 0)


def test_certify_without_pepit_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ImportError, match=r"ngs\[theory\]"):
        theory.certify(methods.nesterov, 1)
