"""The three kinds of check that an equation of the book can have; each names its equation.

``proved`` by SymPy, ``certified`` by performance estimation, ``measured`` against a bound. A check
that fails stops the notebook; the appendix "Equation ledger" lists which cell checks what. It rests
on NumPy and on :mod:`ngs.theory`; ``proved`` needs SymPy.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ngs.errors import InputError
from ngs.theory import Certificate

TIGHT = 1e-3
"""Relative difference up to which a certificate and a bound count as equal."""
ROUNDING = 1e-9
"""Relative room that a measurement has for rounding."""


class CheckError(AssertionError):
    """An equation of the book does not hold."""


def proved(equation: str, *claims: Any) -> None:
    """Prove an equation with SymPy, and print so.

    Args:
        equation: the label, as in ``eq:gd-bound``.
        claims: SymPy expressions that must be 0, equations (``sympy.Eq``) and inequalities that
            must hold for all values of their symbols; at least one.

    Raises:
        CheckError: a claim could not be reduced to 0 or to true.
        InputError: there is no claim, or ``equation`` is no label.

    >>> import sympy
    >>> x = sympy.Symbol("x", real=True)
    >>> proved("eq:square", sympy.Eq((x + 1) ** 2, x**2 + 2 * x + 1), x**2 >= 0)
    eq:square is proved
    """
    _check_label(equation)
    if not claims:
        raise InputError(f"a proof of {equation} needs at least one claim, got none")
    for number, claim in enumerate(claims, start=1):
        remainder = _left_over(claim)
        if remainder != 0:
            raise CheckError(f"claim {number} of {equation} is not proved: left is {remainder}")
    print(f"{equation} is proved")


def _left_over(claim: Any) -> Any:
    """Return what SymPy cannot reduce a claim by: 0 if it holds for all values of its symbols."""
    try:
        import sympy
        from sympy.core.relational import GreaterThan, LessThan, StrictGreaterThan, StrictLessThan
    except ImportError as error:
        raise ImportError("ngs.checks.proved needs SymPy: pip install 'ngs[theory]'") from error
    if isinstance(claim, sympy.Eq):
        claim = claim.lhs - claim.rhs
    if isinstance(claim, GreaterThan | LessThan | StrictGreaterThan | StrictLessThan):
        excess = sympy.factor(sympy.simplify(claim.gts - claim.lts))
        strict = isinstance(claim, StrictGreaterThan | StrictLessThan)
        holds = excess.is_positive if strict else excess.is_nonnegative
        if holds or sympy.simplify(claim) == sympy.true:
            return 0
        return claim
    if isinstance(claim, sympy.logic.boolalg.Boolean | bool):
        return 0 if sympy.simplify(claim) == sympy.true else claim
    remainder = sympy.simplify(claim)
    return remainder if remainder == 0 else sympy.simplify(sympy.expand(claim))


def certified(equation: str, *certificates: Certificate, tight: bool) -> None:
    """Compare worst cases with what is proved of them, and print so.

    Args:
        equation: the label, as in ``eq:gd-bound``.
        certificates: from :func:`ngs.theory.certify`; at least one.
        tight: whether the bound is claimed to be the exact worst case (to a relative 1e-3); else
            the worst case must lie below it.

    Raises:
        CheckError: a worst case lies above its bound, or below one that is claimed to be tight.
        InputError: there is no certificate, one has no bound, or ``equation`` is no label.

    >>> certified("eq:gd-bound", Certificate(computed=0.16667, proved=1 / 6), tight=True)
    eq:gd-bound is certified, and tight
    """
    _check_label(equation)
    if not certificates:
        raise InputError(f"a certificate of {equation} is needed, got none")
    for computed, bound in certificates:
        if bound is None:
            raise InputError(f"nothing is proved of this method: {equation} has no bound")
        if tight and not math.isclose(computed, bound, rel_tol=TIGHT):
            raise CheckError(f"{equation}: the worst case is {computed:.6g}, not {bound:.6g}")
        if not computed <= bound + TIGHT * abs(bound):
            raise CheckError(f"{equation}: the worst case {computed:.6g} is above {bound:.6g}")
    print(f"{equation} is certified" + (", and tight" if tight else ""))


def measured(
    equation: str,
    values: ArrayLike,
    bounds: ArrayLike,
    *,
    relation: Literal["<=", "==", ">="] = "<=",
    rtol: float = ROUNDING,
    atol: float = 0.0,
) -> None:
    """Compare what was measured with what the equation says, and print so.

    Args:
        equation: the label, as in ``eq:gd-bound``.
        values: what was measured, of any shape.
        bounds: what the equation says, of a shape that broadcasts with it.
        relation: what must hold of every pair.
        rtol: room relative to the bound; 1e-9, for rounding, unless the text says why it is more.
        atol: absolute room, where a bound can be zero.

    Raises:
        CheckError: the relation does not hold somewhere.
        InputError: there is nothing to compare, or ``equation`` is no label.

    >>> measured("eq:half", [0.1, 0.2], 0.5)
    eq:half is measured: it holds at 2 points
    """
    _check_label(equation)
    found, said = np.broadcast_arrays(np.asarray(values, float), np.asarray(bounds, float))
    if found.size == 0:
        raise InputError(f"a measurement of {equation} needs values, got none")
    room = rtol * np.abs(said) + atol
    holds = {
        "<=": found <= said + room,
        ">=": found >= said - room,
        "==": np.abs(found - said) <= room,
    }[relation]
    if not holds.all():
        worst = int(np.argmin(holds))
        raise CheckError(
            f"{equation}: {found.flat[worst]:.6g} {relation} {said.flat[worst]:.6g} fails, at "
            f"{np.count_nonzero(~holds)} of {found.size} points"
        )
    points = "1 point" if found.size == 1 else f"{found.size} points"
    print(f"{equation} is measured: it holds at {points}")


def _check_label(equation: str) -> None:
    if not equation.startswith("eq:"):
        raise InputError(f"equation must be a label that starts with 'eq:', got {equation!r}")
