"""``NGS``: Nesterov's accelerated gradient as a ``torch.optim.Optimizer``, exact under schedules.

It rests on torch's own SGD kernels, called with the scalars that make them compute the look-ahead
method of :mod:`ngs.methods` while learning rate and momentum change.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

from ngs.errors import InputError

try:
    import torch
    from torch.optim.optimizer import ParamsT, _default_to_fused_or_foreach
    from torch.optim.sgd import sgd as sgd_kernel
except ImportError as error:
    raise ImportError("ngs.optim.torch needs PyTorch: pip install 'ngs[torch]'") from error


class NGS(torch.optim.Optimizer):
    r"""Nesterov's method in the look-ahead form, for any schedule of learning rate and momentum.

    .. math:: v_{t+1} = \beta_t v_t - \eta_t \nabla f(\theta_t + \beta_t v_t), \qquad
              \theta_{t+1} = \theta_t + v_{t+1}

    The parameters of the model hold the look-ahead point :math:`y_t = \theta_t + \beta_t v_t`,
    where the gradient is wanted. ``torch.optim.SGD(nesterov=True)`` computes the same as long as
    both coefficients are constant, and another method as soon as one changes; this one stays
    exact.

    The coefficient that a parameter group holds when :meth:`step` number :math:`t` is called is
    :math:`\beta_{t+1}`: it forms the next look-ahead point. (:math:`\beta_0` multiplies a velocity
    of zero.) The group's ``lr`` at that moment is :math:`\eta_t`. Both may be changed between
    steps, by hand or by any ``torch.optim.lr_scheduler``. A parameter without a gradient is left
    alone.

    Args:
        params: tensors or parameter groups, as for every torch optimizer.
        lr: learning rate :math:`\eta`, finite and at least 0.
        momentum: coefficient :math:`\beta` in [0, 1).
        weight_decay: :math:`\lambda \ge 0`; adds :math:`\lambda y_t` to the gradient, that is, the
            gradient of :math:`\tfrac\lambda2\lVert\cdot\rVert^2` at the look-ahead point.

    Raises:
        InputError: a coefficient lies outside its range, here or in a group at a later step.
        RuntimeError: a gradient is sparse.

    Source: Nesterov (1983); Sutskever et al. (2013), section 2; stored form: Bengio et al. (2012).

    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = NGS([weight], lr=0.1, momentum=0.9)
    >>> (0.5 * weight**2).sum().backward()
    >>> optimizer.step()
    >>> round(weight.item(), 3)  # theta_1 = 0.9, v_1 = -0.1, and y_1 = 0.9 - 0.09
    0.81
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group after checking its coefficients (also called for every initial group)."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step with the gradients in ``p.grad``; return the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _check(group)
        # Everything that can be refused is refused before the first parameter moves.
        plan = [(group, self._by_clock(group["params"])) for group in self.param_groups]
        for group, buckets in plan:
            for (scale, momentum), params in buckets.items():
                self._advance(params, group, scale, momentum)
        return loss

    def _by_clock(
        self, params: Iterable[torch.Tensor]
    ) -> dict[tuple[float, float], list[torch.Tensor]]:
        """Group the parameters that have a gradient by the scalars their buffers were made with."""
        buckets: dict[tuple[float, float], list[torch.Tensor]] = {}
        for p in params:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError(
                    "NGS takes no sparse gradients: build the embedding with sparse=False"
                )
            state = self.state[p]
            key = (state.get("scale", 0.0), state.get("momentum", 0.0))
            buckets.setdefault(key, []).append(p)
        return buckets

    def _advance(
        self, params: list[torch.Tensor], group: dict[str, Any], scale: float, momentum: float
    ) -> None:
        r"""Step the parameters that share the buffer scale :math:`s_{t-1}` and :math:`\beta_t`.

        Torch's kernel does b <- m b + (1 - d) g, p <- p - l (g + m b). With p = y_t and
        b = -v_t / s_{t-1} it is the exact look-ahead step for
        s_t = sqrt(eta_t s_{t-1} beta_t / beta_{t+1}), m = beta_t s_{t-1} / s_t,
        d = 1 - eta_t / s_t, l = eta_t; chapter 4 derives this and proves it with SymPy.
        """
        lr, next_momentum = float(group["lr"]), float(group["momentum"])
        if lr == 0.0 and scale == 0.0:
            return  # warm-up from zero: nothing has moved, so there is no velocity to scale yet
        buffers = [self._buffer(p) for p in params]
        if momentum == 0.0 or scale == 0.0:
            torch._foreach_zero_(buffers)  # beta_t v_t = 0 makes the past irrelevant: start afresh
            scale, kernel_momentum, dampening = lr, next_momentum, 0.0
        elif lr == 0.0:
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(params, buffers, alpha=-scale * next_momentum)
            self._remember(params, scale, next_momentum)
            return
        elif next_momentum == 0.0:
            scale, kernel_momentum, dampening = lr, 0.0, 0.0
        else:
            new_scale = math.sqrt(lr * scale * momentum / next_momentum)
            kernel_momentum = momentum * scale / new_scale
            scale, dampening = new_scale, 1.0 - lr / new_scale
        weight_decay = float(group["weight_decay"])
        grads = [p.grad for p in params if p.grad is not None]
        fused, foreach = _default_to_fused_or_foreach(params, differentiable=False)
        if foreach and weight_decay == 0.0:
            # Torch's foreach kernel adds the buffers to the gradients in place; with weight decay
            # it makes a copy first, without one p.grad would no longer be the gradient.
            grads = [g.clone() for g in grads]
        sgd_kernel(
            params,
            grads,
            list(buffers),
            has_sparse_grad=False,
            foreach=foreach,
            fused=fused,
            weight_decay=weight_decay,
            momentum=kernel_momentum,
            lr=lr,
            dampening=dampening,
            nesterov=kernel_momentum > 0.0,
            maximize=False,
        )
        self._remember(params, scale, next_momentum)

    def _buffer(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            # A zero buffer, not none: torch's kernel skips the dampening of a buffer it creates.
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        buffer: torch.Tensor = state["momentum_buffer"]
        return buffer

    def _remember(self, params: list[torch.Tensor], scale: float, momentum: float) -> None:
        for p in params:
            self.state[p]["scale"] = scale
            self.state[p]["momentum"] = momentum


def _check(group: dict[str, Any]) -> None:
    """Raise InputError unless the coefficients of a group can be used."""
    lr, momentum, decay = (float(group[k]) for k in ("lr", "momentum", "weight_decay"))
    if not (math.isfinite(lr) and lr >= 0.0):
        raise InputError(f"lr must be finite and at least 0, got {lr}")
    if not 0.0 <= momentum < 1.0:
        raise InputError(f"momentum must lie in [0, 1), got {momentum}")
    if not (math.isfinite(decay) and decay >= 0.0):
        raise InputError(f"weight_decay must be finite and at least 0, got {decay}")
