"""What one read of gradients and buffers tells: inner products, norms, and whether all is finite.

It rests on torch alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ngs.optim.torch.flat import as_real, flat_views


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
    grads: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor | None],
    scales: Sequence[float],
    *,
    maximize: Sequence[bool],
) -> Signals:
    r"""Read every gradient and buffer once.

    Args:
        grads: gradients, dense.
        buffers: :math:`b = -v_t/s_{t-1}` for each, or ``None`` where there is no velocity.
        scales: :math:`s_{t-1}` for each.
        maximize: whether the gradient counts with the other sign, for each.

    Products of float16, bfloat16 and float32 are summed in float32, others in their own type.
    """
    pairs = [_flat_pair(grad, buffer) for grad, buffer in zip(grads, buffers, strict=True)]
    products: list[torch.Tensor] = []
    for g, b in pairs:
        products += [torch.dot(g, g)] if b is None else [torch.dot(x, y) for x, y in _three(g, b)]
    numbers = iter(_to_floats(products))
    signals = Signals([], [], [])
    for (g, b), scale, upwards in zip(pairs, scales, maximize, strict=True):
        values = [next(numbers)] if b is None else [next(numbers) for _ in range(3)]
        if not all(map(math.isfinite, values)):  # perhaps only the squares left float32's range
            g, b = g.double(), None if b is None else b.double()
            values = [float(torch.dot(x, y)) for x, y in ([(g, g)] if b is None else _three(g, b))]
        grad_square, along, buffer_square = values if b is not None else (*values, 0.0, 0.0)
        signals.grad_square.append(grad_square)
        # b points against the velocity, and so does the gradient against the way up.
        signals.inner.append((scale if upwards else -scale) * along)
        signals.velocity_square.append(scale * scale * buffer_square)
    return signals


def _three(g: torch.Tensor, b: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return (g, g), (g, b), (b, b)


def _flat_pair(
    grad: torch.Tensor, buffer: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return gradient and buffer as real vectors with their entries in the same order."""
    tensors = [as_real(t) for t in (grad, buffer) if t is not None]
    flat = flat_views(tensors) or [t.reshape(-1) for t in tensors]
    if flat[0].dtype in (torch.float16, torch.bfloat16):
        flat = [t.float() for t in flat]
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
