"""What a rule of scalars is computed with: floats, or the arrays of a framework that traces code.

A framework that compiles a step runs its Python once, with stand-ins for the numbers, and an ``if``
on one of those is an error. So the rules choose by :meth:`Floats.where`, and take what they choose
with as their last argument: :data:`FLOATS`, ``jax.numpy`` or ``keras.ops``, which name these
functions alike. It rests on the standard library.
"""

import math
from typing import Any, Protocol

Number = Any
"""A float, or an array without axes."""


class Arithmetic(Protocol):
    """The functions that a rule may use, beside operators, comparisons and ``&`` of conditions."""

    def where(self, condition: Number, then: Number, otherwise: Number, /) -> Number:
        """Return one of two numbers, both of which have been computed."""

    def minimum(self, first: Number, second: Number, /) -> Number:
        """Return the smaller of two numbers."""

    def maximum(self, first: Number, second: Number, /) -> Number:
        """Return the larger of two numbers."""

    def exp(self, x: Number, /) -> Number:
        """Return the exponential function of a number."""

    def sqrt(self, x: Number, /) -> Number:
        """Return the root of a number that is at least 0."""

    def isfinite(self, x: Number, /) -> Number:
        """Return whether a number is neither infinite nor NaN."""


class Floats:
    """:class:`Arithmetic` for Python's floats."""

    minimum, maximum = staticmethod(min), staticmethod(max)
    exp, sqrt, isfinite = map(staticmethod, (math.exp, math.sqrt, math.isfinite))

    @staticmethod
    def where(condition: bool, then: Number, otherwise: Number, /) -> Number:
        """Return one of two numbers, both of which have been computed."""
        return then if condition else otherwise


FLOATS = Floats()
"""What a rule computes with where it is not told otherwise."""
