"""What one read of gradients and buffers tells: inner products, norms, and whether all is finite.

It rests on torch, and on the sums over processes beside it.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ngs.optim.torch.flat import alike_in_memory, as_real
from ngs.optim.torch.shards import add_up

PIECE = 2**20
"""Entries of a piece of a vector on a CPU: 4 MiB of float32."""


@dataclass(frozen=True)
class Signals:
    r"""Inner products of each parameter's gradient and velocity, in double precision.

    Attributes:
        inner: :math:`\langle g_t, v_t\rangle`, one number a parameter (the real part for complex
            parameters).
        grad_square: :math:`\lVert g_t\rVert^2`, likewise.
        velocity_square: :math:`\lVert v_t\rVert^2`, likewise.
    """

    inner: list[float]
    grad_square: list[float]
    velocity_square: list[float]


def read_signals(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor | None],
    scales: Sequence[float],
    *,
    maximize: Sequence[bool],
) -> Signals:
    r"""Read every gradient and buffer once.

    Args:
        params: parameters; where they are cut over processes, the products are those of the whole.
        grads: gradients, dense; this process's parts of them.
        buffers: :math:`b = -v_t/s_{t-1}` for each, likewise; ``None`` where there is no velocity.
        scales: :math:`s_{t-1}` for each.
        maximize: whether the gradient counts with the other sign, for each.

    Products of float16, bfloat16 and float32 are summed in float32, others in their own type.
    """
    pairs = [_flat_pair(grad, buffer) for grad, buffer in zip(grads, buffers, strict=True)]
    products: list[torch.Tensor] = []
    lengths = []
    # From the last to the first: what is read last is still in the cache when the step begins.
    for g, b in reversed(pairs):
        before = len(products)
        for piece in _pieces(g, b):
            products += [torch.dot(x, y) for x, y in _combinations(*piece)]
        lengths.append(len(products) - before)
    numbers = _to_floats(products)
    signals = Signals([], [], [])
    place = len(numbers)
    columns = zip(pairs, reversed(lengths), scales, maximize, strict=True)
    for (g, b), length, scale, upwards in columns:
        place -= length
        kinds = 1 if b is None else 3
        own = numbers[place : place + length]
        values = [sum(own[kind::kinds]) for kind in range(kinds)] if _finite(own) else [math.nan]
        if not _finite(values):  # perhaps only the squares left float32's range
            g, b = g.double(), None if b is None else b.double()
            values = [float(torch.dot(x, y)) for x, y in _combinations(g, b)]
        grad_square, along, buffer_square = values if b is not None else (*values, 0.0, 0.0)
        signals.grad_square.append(grad_square)
        # b points against the velocity, and so does the gradient against the way up.
        signals.inner.append((scale if upwards else -scale) * along)
        signals.velocity_square.append(scale * scale * buffer_square)
    add_up(params, (signals.inner, signals.grad_square, signals.velocity_square))
    return signals


Pair = tuple[torch.Tensor, torch.Tensor | None]


def _pieces(g: torch.Tensor, b: torch.Tensor | None) -> list[Pair]:
    """Cut long vectors, so that the three products of a CPU find each piece in its cache."""
    if g.device.type != "cpu" or g.numel() <= PIECE:
        return [(g, b)]
    first = torch.split(g, PIECE)
    second = [None] * len(first) if b is None else torch.split(b, PIECE)
    return list(zip(first, second, strict=True))


def _combinations(
    g: torch.Tensor, b: torch.Tensor | None
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return ((g, g),) if b is None else ((g, g), (g, b), (b, b))


def _finite(numbers: Sequence[float]) -> bool:
    return all(map(math.isfinite, numbers))


def _flat_pair(grad: torch.Tensor, buffer: torch.Tensor | None) -> Pair:
    """Return gradient and buffer as real vectors with their entries in the same order."""
    tensors = [as_real(t) for t in (grad, buffer) if t is not None]
    flat = [t.reshape(-1) for t in alike_in_memory(tensors) or tensors]
    # Sums of low precision are taken in float32; and a model may have been cast in mid-course.
    widest = functools.reduce(torch.promote_types, (t.dtype for t in flat), torch.float32)
    flat = [t.to(widest) for t in flat]
    return flat[0], (flat[1] if buffer is not None else None)


def _to_floats(scalars: list[torch.Tensor]) -> list[float]:
    """Return 0-dimensional tensors as floats, waiting once for each device and type."""
    result = [0.0] * len(scalars)
    places: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, scalar in enumerate(scalars):
        places.setdefault((scalar.device, scalar.dtype), []).append(i)
    for indices in places.values():
        numbers = torch.stack([scalars[i] for i in indices]).tolist()
        for i, number in zip(indices, numbers, strict=True):
            result[i] = number
    return result
