r"""Attention over past gradients: how much each one counts, in scalars alone.

The present gradient :math:`g_t` is the query; the last :math:`m` gradients, itself included, are
the keys and the values. A framework computes the inner products; the weights follow here. It is an
experiment, and chapter 9 reports how it came out. It rests on the standard library.
"""

import math
from collections.abc import Sequence

from ngs.errors import InputError

SCORES = ("cosine", "dot")
"""How likeness to the present gradient is measured."""


def attention_weights(
    inner: Sequence[float],
    squares: Sequence[float],
    *,
    entries: int,
    temperature: float = 1.0,
    score: str = "cosine",
) -> list[float]:
    r"""Return the weights of the last gradients: a softmax of their likeness to the present one.

    .. math:: w_i = \frac{e^{s_i/T}}{\sum_j e^{s_j/T}}, \qquad
              s_i = \frac{\langle g_t, g_{t-i}\rangle}{\lVert g_t\rVert\,\lVert g_{t-i}\rVert}
              \ \text{("cosine")} \quad\text{or}\quad
              s_i = \frac{\langle g_t, g_{t-i}\rangle}{\sqrt n}\ \text{("dot")}

    The weights are at least 0 and sum to 1. Their order is that of the arguments, and nothing else
    depends on it: the age of a gradient plays no role. Where a gradient is zero its cosine counts
    as 0, with itself too. What is not a number in a product makes all weights ``nan``.

    Args:
        inner: :math:`\langle g_t, g_{t-i}\rangle`; one of them is that of :math:`g_t` with itself.
        squares: :math:`\lVert g_{t-i}\rVert^2`, in the same order; the present one first.
        entries: :math:`n`, the number of entries of a gradient; only ``"dot"`` uses it.
        temperature: :math:`T`, above 0. A small one leaves the present gradient alone (gradient
            descent); ``math.inf`` weights all alike (their mean).
        score: ``"cosine"`` does not change when the loss is multiplied by a number; ``"dot"`` is
            the scaled dot product of transformers, and does.

    Raises:
        InputError: a parameter is out of range, or the sequences do not fit.

    Source: Vaswani et al. (2017), equation 1; chapter 9.

    >>> attention_weights([4.0, 4.0, -4.0], [4.0, 4.0, 4.0], entries=2, temperature=1e-3)
    [0.5, 0.5, 0.0]
    """
    check_attention(temperature, score)
    if not inner or len(inner) != len(squares):
        raise InputError(
            f"inner and squares must be of one length, 1 or more, got {len(inner)} and "
            f"{len(squares)}"
        )
    if entries < 1:
        raise InputError(f"entries must be at least 1, got {entries}")
    if score == "dot":
        scores = [product / math.sqrt(entries) for product in inner]
    else:
        norms = [math.sqrt(squares[0]) * math.sqrt(square) for square in squares]
        scores = [_cosine(product, norm) for product, norm in zip(inner, norms, strict=True)]
    # exp((s_i - max s) / T) cannot overflow, however small the temperature
    highest = max(scores)
    raised = [math.exp((s - highest) / temperature) for s in scores]
    total = sum(raised)
    return [r / total for r in raised]


def check_attention(temperature: float, score: str) -> None:
    """Raise InputError unless these can be used by :func:`attention_weights`."""
    if not temperature > 0.0:
        raise InputError(
            f"temperature must be above 0, got {temperature}: math.inf weights all alike"
        )
    if score not in SCORES:
        raise InputError(f"score must be 'cosine' or 'dot', got {score!r}")


def _cosine(product: float, norms: float) -> float:
    """Return the cosine, 0 for a zero vector; rounding must not carry it beyond 1."""
    if norms == 0.0:
        return 0.0
    cosine = product / norms
    return cosine if math.isnan(cosine) else min(max(cosine, -1.0), 1.0)
