"""The checks of the book's equations: each kind accepts what holds and fails on what does not."""

import sys

import numpy as np
import pytest
import sympy

from ngs.checks import CheckError, certified, measured, proved
from ngs.errors import InputError
from ngs.theory import Certificate

x, y = sympy.symbols("x y", real=True)
p = sympy.Symbol("p", positive=True)


@pytest.mark.parametrize(
    "claim",
    [
        (x + y) ** 2 - x**2 - 2 * x * y - y**2,
        sympy.Eq((x + y) * (x - y), x**2 - y**2),
        sympy.Eq(sympy.sin(x) ** 2 + sympy.cos(x) ** 2, 1),
        x**2 + 1 > 0,
        p > 0,
        sympy.true,
        sympy.Eq(1, 1),
    ],
    ids=str,
)
def test_a_true_claim_is_proved(claim, capsys):
    proved("eq:a", claim)
    assert capsys.readouterr().out == "eq:a is proved\n"


@pytest.mark.parametrize(
    "claim",
    [
        x - y,
        sympy.Eq((x + y) ** 2, x**2 + y**2),
        x > 0,
        x**2 - 1 >= 0,
        x**2 > 0,
        sympy.false,
        sympy.Eq(1, 2),
        sympy.Float(1e-12),
    ],
    ids=str,
)
def test_a_claim_that_does_not_hold_for_all_values_is_not_proved(claim, capsys):
    with pytest.raises(CheckError, match="claim 2 of eq:a is not proved: left is"):
        proved("eq:a", x - x, claim)
    assert capsys.readouterr().out == ""


def test_every_kind_needs_something_to_check_and_a_label():
    certificate = Certificate(0.1, 0.2)
    with pytest.raises(InputError, match="at least one claim"):
        proved("eq:a")
    with pytest.raises(InputError, match="needed, got none"):
        certified("eq:a", tight=False)
    with pytest.raises(InputError, match="needs values, got none"):
        measured("eq:a", [], [])
    for check in (
        lambda: proved("a", x - x),
        lambda: certified("a", certificate, tight=False),
        lambda: measured("a", 1.0, 2.0),
    ):
        with pytest.raises(InputError, match="a label that starts with 'eq:', got 'a'"):
            check()


def test_proved_without_sympy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(ImportError, match=r"ngs\[theory\]"):
        proved("eq:a", 0)


def test_a_worst_case_below_its_bound_is_certified(capsys):
    certified("eq:a", Certificate(0.1, 0.2), Certificate(-0.5, -0.5), tight=False)
    assert capsys.readouterr().out == "eq:a is certified\n"


def test_a_worst_case_that_reaches_its_bound_is_tight(capsys):
    certified("eq:a", Certificate(0.19999, 0.2), Certificate(0.20001, 0.2), tight=True)
    assert capsys.readouterr().out == "eq:a is certified, and tight\n"


@pytest.mark.parametrize(
    ("certificate", "tight", "message"),
    [
        (Certificate(0.21, 0.2), False, r"worst case 0\.21 is above 0\.2"),
        (Certificate(0.21, 0.2), True, r"worst case is 0\.21, not 0\.2"),
        (Certificate(0.19, 0.2), True, r"worst case is 0\.19, not 0\.2"),
        (Certificate(float("nan"), 0.2), False, "is above"),
    ],
)
def test_a_worst_case_that_does_not_fit_is_not_certified(certificate, tight, message):
    with pytest.raises(CheckError, match=message):
        certified("eq:a", Certificate(0.2, 0.2), certificate, tight=tight)


def test_a_certificate_without_a_bound_certifies_nothing():
    with pytest.raises(InputError, match="nothing is proved"):
        certified("eq:a", Certificate(0.1, None), tight=False)


@pytest.mark.parametrize(
    ("relation", "values", "bounds"),
    [
        ("<=", [1.0, 2.0], [1.0, 3.0]),
        (">=", [1.0, 2.0], [1.0, 1.5]),
        ("==", [1.0, 2.0], [1.0, 2.0 + 1e-12]),
        ("<=", np.zeros((2, 3)), 0.0),
    ],
)
def test_values_that_keep_the_relation_are_measured(relation, values, bounds, capsys):
    measured("eq:a", values, bounds, relation=relation)
    assert f"holds at {np.size(values)} points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("relation", "values", "bounds"),
    [
        ("<=", [1.0, 3.1], [1.0, 3.0]),
        (">=", [1.0, 1.4], [1.0, 1.5]),
        ("==", [1.0, 2.0], [1.0, 2.001]),
        ("<=", [1.0, np.nan], 2.0),
        ("==", [1.0, np.nan], [1.0, np.nan]),
    ],
)
def test_values_that_break_the_relation_are_not(relation, values, bounds):
    with pytest.raises(CheckError, match="at 1 of 2 points"):
        measured("eq:a", values, bounds, relation=relation)


def test_room_is_what_was_asked_for_and_no_more():
    measured("eq:a", 1.05, 1.0, relation="==", rtol=0.06)
    with pytest.raises(CheckError):
        measured("eq:a", 1.05, 1.0, relation="==", rtol=0.04)
    measured("eq:a", 1e-9, 0.0, relation="==", atol=1e-8)
    with pytest.raises(CheckError):
        measured("eq:a", 1e-9, 0.0, relation="==")
