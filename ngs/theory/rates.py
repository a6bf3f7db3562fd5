"""What is proved of which method, with which coefficients: one line a theorem.

It rests on :mod:`ngs.methods`, :mod:`ngs.schedules` and :mod:`ngs.theory.bounds`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ngs import methods
from ngs.methods import Method
from ngs.schedules import (
    ChambolleDossalMomentum,
    ConvexAnchor,
    Momentum,
    NesterovMomentum,
    OptimizedMomentum,
    SimplifiedMomentum,
    StronglyConvexAnchor,
    StronglyConvexMomentum,
    TripleMomentum,
)
from ngs.theory.bounds import (
    chambolle_dossal_bound,
    gradient_descent_bound,
    heavy_ball_bound,
    nesterov_bound,
    optimized_bound,
    simplified_bound,
    strongly_convex_bound,
    triple_momentum_bound,
)


class Rate(NamedTuple):
    """A theorem about a method: its coefficients and the bound that they earn.

    Attributes:
        method: the method, one of :data:`ngs.methods.METHODS`.
        step_size: ``(L, mu) -> lr``.
        momentum: ``(steps, L, mu) -> coefficient, tuple or schedule``.
        bound: ``(k, L, mu, R) -> bound`` on the gap after k steps.
        tight: whether the bound is the exact worst case.
        strongly_convex: whether it needs ``mu`` above 0.
        source: the paper.
    """

    method: Method
    step_size: Callable[[float, float], float]
    momentum: Callable[[int, float, float], Momentum]
    bound: Callable[[int, float, float, float], float]
    tight: bool
    strongly_convex: bool
    source: str


def _convex(
    method: Method,
    momentum: Callable[[int], Momentum],
    bound: Callable[[int, float, float], float],
    tight: bool,
    source: str,
) -> Rate:
    return Rate(
        method,
        lambda L, mu: 1.0 / L,
        lambda steps, L, mu: momentum(steps),
        lambda k, L, mu, R: bound(k, L, R),
        tight,
        False,
        source,
    )


def _accelerated(method: Method, momentum: Callable[[float], Momentum], source: str) -> Rate:
    return Rate(
        method,
        lambda L, mu: 1.0 / L,
        lambda steps, L, mu: momentum(L / mu),
        strongly_convex_bound,
        False,
        True,
        source,
    )


_FISTA = "Beck & Teboulle (2009), Theorem 4.4"
_SIMPLIFIED = "PEPit, accelerated_gradient_convex_simplified (tightness: certified)"
_STRONG = "Nesterov (2004), Theorem 2.2.3"

RATES: dict[str, Rate] = {
    "gradient descent": _convex(
        methods.gradient_descent,
        lambda steps: 0.0,
        gradient_descent_bound,
        True,
        "Drori & Teboulle (2014), Theorem 3.1",
    ),
    "Nesterov, lambda": _convex(
        methods.nesterov, lambda steps: NesterovMomentum(), nesterov_bound, False, _FISTA
    ),
    "Nesterov, simplified": _convex(
        methods.nesterov, lambda steps: SimplifiedMomentum(), simplified_bound, True, _SIMPLIFIED
    ),
    "Nesterov, Chambolle-Dossal": _convex(
        methods.nesterov,
        lambda steps: ChambolleDossalMomentum(),
        lambda k, L, R: chambolle_dossal_bound(k, 3.0, L, R),
        False,
        "Chambolle & Dossal (2015)",
    ),
    "stored form, lambda": _convex(
        methods.nesterov_stored, lambda steps: NesterovMomentum(), nesterov_bound, False, _FISTA
    ),
    "stored form, simplified": _convex(
        methods.nesterov_stored,
        lambda steps: SimplifiedMomentum(),
        simplified_bound,
        True,
        _SIMPLIFIED,
    ),
    "FISTA, lambda": _convex(
        methods.fista, lambda steps: NesterovMomentum(), nesterov_bound, False, _FISTA
    ),
    "FISTA, simplified": _convex(
        methods.fista, lambda steps: SimplifiedMomentum(), simplified_bound, True, _SIMPLIFIED
    ),
    "three sequences, convex": _convex(
        methods.three_sequences, lambda steps: ConvexAnchor(), nesterov_bound, False, _FISTA
    ),
    "optimized gradient": _convex(
        methods.ogm,
        OptimizedMomentum,
        optimized_bound,
        True,
        "Kim & Fessler (2016), Theorem 2; Drori (2017), Theorem 3",
    ),
    "Nesterov, strongly convex": _accelerated(methods.nesterov, StronglyConvexMomentum, _STRONG),
    "three sequences, strongly convex": _accelerated(
        methods.three_sequences, StronglyConvexAnchor, _STRONG
    ),
    "triple momentum": Rate(
        methods.triple_momentum,
        lambda L, mu: TripleMomentum(L / mu).step_size(L),
        lambda steps, L, mu: TripleMomentum(L / mu),
        triple_momentum_bound,
        True,
        True,
        "Van Scoy, Freeman & Lynch (2018), Theorem 1 (tightness: certified)",
    ),
    "heavy ball, careful": Rate(
        methods.heavy_ball,
        lambda L, mu: 0.5 / L,
        lambda steps, L, mu: math.sqrt((1.0 - 0.5 * mu / L) * 0.5),
        lambda k, L, mu, R: heavy_ball_bound(k, 0.5 / L, L, mu, R),
        False,
        True,
        "Ghadimi, Feyzmahdavian & Johansson (2015), Theorem 4",
    ),
}
"""Every theorem that the book certifies, by name. A line added here is tested with the others."""
