"""One exact step through torch's own SGD kernels, for parameters that share their scalars.

It rests on ``torch.optim.sgd.sgd``, the functional form of ``torch.optim.SGD``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.optim.optimizer import _default_to_fused_or_foreach, _device_dtype_check_for_fused
from torch.optim.sgd import sgd

from ngs.optim.torch.flat import alike_in_memory, as_real

SMALL = 2**16
"""Entries below which a CPU's fused kernel gains nothing; it wakes all threads for each tensor."""


class Scalars(NamedTuple):
    r"""What torch's kernel is called with so that it takes an exact look-ahead step.

    Attributes:
        scale: :math:`s_t`; after the step the buffer holds :math:`b = -v_{t+1}/s_t`.
        momentum: :math:`m`, the kernel's momentum.
        dampening: :math:`d`, the kernel's dampening.
        fresh: whether the buffer must be zero before the step.
    """

    scale: float
    momentum: float
    dampening: float
    fresh: bool


def kernel_scalars(lr: float, scale: float, momentum: float, next_momentum: float) -> Scalars:
    r"""Return the scalars with which torch's kernel is Nesterov's method.

    The kernel computes :math:`b \leftarrow m b + (1-d) g` and
    :math:`p \leftarrow p - \eta_t (g + m b)`. With :math:`p = y_t` and :math:`b = -v_t/s_{t-1}` it
    is the look-ahead step for

    .. math:: s_t = \sqrt{\eta_t\, s_{t-1}\, \beta_t/\beta_{t+1}}, \qquad
              m = \beta_t s_{t-1}/s_t, \qquad d = 1 - \eta_t/s_t .

    Chapter 10 derives it and proves it with SymPy.

    Args:
        lr: :math:`\eta_t`, above 0.
        scale: :math:`s_{t-1}`, 0 where there is no velocity yet.
        momentum: :math:`\beta_t`.
        next_momentum: :math:`\beta_{t+1}`.

    >>> kernel_scalars(lr=0.1, scale=0.1, momentum=0.9, next_momentum=0.9)
    Scalars(scale=0.1, momentum=0.9, dampening=0.0, fresh=False)
    """
    if momentum == 0.0 or scale == 0.0:  # beta_t v_t = 0: the past is irrelevant, start afresh
        return Scalars(lr, next_momentum, 0.0, True)
    if next_momentum == 0.0:  # what the buffer forgets is multiplied by zero in the next step
        return Scalars(lr, 0.0, 0.0, False)
    if momentum == next_momentum and lr == scale:  # stock SGD; the root would only add rounding
        return Scalars(lr, momentum, 0.0, False)
    new_scale = math.sqrt(lr * scale * momentum / next_momentum)
    return Scalars(new_scale, momentum * scale / new_scale, 1.0 - lr / new_scale, False)


def exact_step(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    buffers: list[torch.Tensor],
    *,
    lr: float,
    scale: float,
    momentum: float,
    next_momentum: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    keep_velocity: bool = False,
    foreach: bool | None = None,
    fused: bool | None = None,
) -> float:
    r"""Take one look-ahead step in place and return the new scale :math:`s_t`.

    Args:
        params: :math:`y_t`, overwritten by :math:`y_{t+1}`; real or complex.
        grads: :math:`g_t`, of the same shapes; not changed.
        buffers: :math:`-v_t/s_{t-1}`, overwritten by :math:`-v_{t+1}/s_t`.
        lr: :math:`\eta_t`, 0 or more.
        scale: :math:`s_{t-1}`.
        momentum: :math:`\beta_t`.
        next_momentum: :math:`\beta_{t+1}`.
        weight_decay: :math:`\lambda`; :math:`\lambda y_t` is added to the gradient.
        maximize: whether to go up instead of down.
        keep_velocity: whether the buffers are read after the step. Where :math:`\beta_{t+1}=0` the
            method itself has no use for :math:`v_{t+1}`, and without this they do not hold it.
        foreach: as for ``torch.optim.SGD``; ``None`` takes it where it is fast.
        fused: likewise; ``None`` takes it wherever it is correct.
    """
    if lr == 0.0:
        if scale != 0.0:  # v <- beta_t v, y <- y + beta_{t+1} v
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(params, buffers, alpha=-scale * next_momentum)
        return scale
    scalars = kernel_scalars(lr, scale, momentum, next_momentum)
    if scalars.fresh:
        torch._foreach_zero_(buffers)
    if keep_velocity and next_momentum == 0.0:  # b <- -v_{t+1}/eta_t, which the kernel leaves out
        torch._foreach_mul_(buffers, momentum * scale / lr)
        torch._foreach_add_(buffers, grads, alpha=-1.0 if maximize else 1.0)
        if weight_decay != 0.0:
            torch._foreach_add_(buffers, params, alpha=weight_decay)
    triples: list[Sequence[torch.Tensor]] = list(zip(params, grads, buffers, strict=True))
    if any(p.is_complex() for p in params):
        triples = [[as_real(t) for t in triple] for triple in triples]
    fused, foreach = pick_kernel([p for p, _, _ in triples], foreach, fused)
    if fused:
        # Torch's fused kernel walks through memory and takes it for granted that parameter,
        # gradient and buffer lie alike there; where they do not, it mixes up their entries. On a
        # CPU it is also slow on channels_last: the same memory as a vector takes half the time.
        alike = [
            alike_in_memory(triple) if _fused_is_right(*triple) else None for triple in triples
        ]
        unlike = [triple for triple, views in zip(triples, alike, strict=True) if views is None]
        if unlike:
            _call(unlike, scalars, lr, weight_decay, maximize, foreach=False, fused=False)
        triples = [views for views in alike if views is not None]
    if triples:
        _call(triples, scalars, lr, weight_decay, maximize, foreach=foreach, fused=fused)
    return scalars.scale


def _call(
    triples: list[Sequence[torch.Tensor]],
    scalars: Scalars,
    lr: float,
    weight_decay: float,
    maximize: bool,
    *,
    foreach: bool,
    fused: bool,
) -> None:
    """Hand ``(parameter, gradient, buffer)`` triples to torch's kernel."""
    params, grads, buffers = (list(column) for column in zip(*triples, strict=True))
    nesterov = scalars.momentum > 0.0
    if foreach and nesterov and weight_decay == 0.0 and not maximize:
        # Torch's foreach kernel adds the buffers to the gradients in place (with weight decay or
        # maximize it has made a copy first), and p.grad would no longer be the gradient.
        grads = [g.clone() for g in grads]
    sgd(
        params,
        grads,
        buffers,
        has_sparse_grad=False,
        foreach=foreach,
        fused=fused,
        weight_decay=weight_decay,
        momentum=scalars.momentum,
        lr=lr,
        dampening=scalars.dampening,
        nesterov=nesterov,
        maximize=maximize,
    )


def pick_kernel(
    params: Sequence[torch.Tensor], foreach: bool | None, fused: bool | None
) -> tuple[bool, bool]:
    """Return ``(fused, foreach)``: what was asked for, or else the fastest that is correct."""
    if foreach is None and fused is None:
        if all(p.device.type == "cpu" for p in params) and sum(p.numel() for p in params) < SMALL:
            return False, False
        return _default_to_fused_or_foreach(list(params), differentiable=False, use_fused=True)
    return bool(fused), bool(foreach)


def check_fused(param: torch.Tensor) -> None:
    """Raise RuntimeError unless torch has a fused kernel where a parameter lies."""
    _device_dtype_check_for_fused(as_real(param))


def _fused_is_right(p: torch.Tensor, grad: torch.Tensor, buffer: torch.Tensor) -> bool:
    """Return whether torch's fused kernel handles tensors of these types, where they lie.

    On a CPU it leaves out most entries of float16 and bfloat16 tensors: pytorch #191763, in all
    releases up to 2.13.
    """
    dtype = p.dtype
    if grad.dtype is not dtype or buffer.dtype is not dtype:
        return False
    return dtype in FULL or p.device.type != "cpu"


FULL = (torch.float32, torch.float64)
