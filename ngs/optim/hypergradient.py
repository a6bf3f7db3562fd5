"""Hypergradient descent for SGD with Nesterov momentum, as it was published, to compare with.

It rests on torch.
"""

from collections.abc import Callable, Iterable

import torch
from torch.optim.sgd import sgd

from ngs.errors import InputError


class HypergradientSGD(torch.optim.SGD):
    r"""SGDN-HD: torch's Nesterov form whose learning rate moves along its own derivative.

    .. math:: \alpha_t = \alpha_{t-1} + \beta_h\,\langle g_t, d_{t-1}\rangle, \qquad
              d_t = g_t + \beta\,b_{t+1}, \qquad \theta_{t+1} = \theta_t - \alpha_t d_t

    Nothing keeps :math:`\alpha_t` positive: chapter 8 shows it going below zero on real data. It is
    here to be compared with, not to be used; :class:`ngs.optim.torch.NGS` with a ``factor`` is the
    bounded form. It takes one more buffer a parameter than ``SGD``, for :math:`d_{t-1}`.

    Args:
        params: parameters, one group.
        lr: :math:`\alpha_0`, the learning rate of the first step; afterwards the group's
            ``learned_lr`` counts, and ``lr`` does not.
        momentum: :math:`\beta` in (0, 1).
        weight_decay: added to the gradient, here as in ``SGD``.
        hyper_lr: :math:`\beta_h`, 0 or more.

    Raises:
        InputError: ``hyper_lr`` is negative, or there is more than one group.

    Source: Baydin et al. (2018), algorithm 3.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        hyper_lr: float = 1e-3,
    ) -> None:
        if not hyper_lr >= 0.0:
            raise InputError(f"hyper_lr must be at least 0, got {hyper_lr}")
        super().__init__(params, lr, momentum, weight_decay=weight_decay, nesterov=True)
        if len(self.param_groups) != 1:
            raise InputError(f"there must be one parameter group, got {len(self.param_groups)}")
        self.param_groups[0]["hyper_lr"] = hyper_lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the learning rate, then take torch's step with it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        params = [p for p in group["params"] if p.grad is not None]
        decay, momentum = group["weight_decay"], group["momentum"]
        grads = [p.grad.add(p, alpha=decay) for p in params if p.grad is not None]
        learned = group.setdefault("learned_lr", group["lr"])
        for p, g in zip(params, grads, strict=True):
            if "direction" in self.state[p]:
                learned += group["hyper_lr"] * float((g * self.state[p]["direction"]).sum())
        group["learned_lr"] = learned
        buffers = [self.state[p].get("momentum_buffer") for p in params]
        sgd(
            params,
            grads,  # with the weight decay in them
            buffers,
            has_sparse_grad=False,
            foreach=False,
            fused=False,
            weight_decay=0.0,
            momentum=momentum,
            lr=learned,
            dampening=0.0,
            nesterov=True,
            maximize=False,
        )
        for p, g, buffer in zip(params, grads, buffers, strict=True):
            self.state[p]["momentum_buffer"] = buffer
            self.state[p]["direction"] = g.add(buffer, alpha=momentum)
        return loss
