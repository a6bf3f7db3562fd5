"""``AttentionSGD``: gradient descent along an attention-weighted mean of the last gradients.

An experiment, reported in chapter 9. It rests on :mod:`ngs.attention` and torch.
"""

import math
from collections.abc import Callable
from typing import Any, overload

from ngs.attention import attention_weights, check_attention
from ngs.errors import InputError

try:
    import torch
    from torch.optim.optimizer import ParamsT
except ImportError as error:
    raise ImportError("ngs.optim.attention needs PyTorch: pip install 'ngs[torch]'") from error


class AttentionSGD(torch.optim.Optimizer):
    r"""An experiment: step along the last m gradients, weighted by likeness to the present one.

    .. math:: \theta_{t+1} = \theta_t - \eta_t \sum_{i=0}^{m-1} w_i\,g_{t-i}, \qquad
              w = \operatorname{softmax}(s/T), \qquad
              s_i = \cos(g_t, g_{t-i})

    Chapter 9 measures no gain over momentum, and says why. Two limits are old methods: a small
    temperature is gradient descent, an infinite one steps along the mean of the last m gradients.

    Each parameter tensor is a head of its own: its gradients are weighed by their inner products
    alone. So parameters may be grouped at will, and one without a gradient is left alone, with its
    past. To weigh whole gradients, keep all parameters in one tensor.

    Memory: m - 1 copies of the parameters (momentum: one), allocated at a parameter's first step;
    the present gradient is in ``p.grad`` anyway. Work a step: m inner products and a weighted sum
    of m gradients. The inner products of a parameter go to the host at every step.

    Args:
        params: tensors or parameter groups, as for every torch optimizer.
        lr: learning rate :math:`\eta`, finite and at least 0. The weights sum to 1, so it compares
            with the :math:`\eta/(1-\beta)` of momentum.
        window: :math:`m`, 1 or more; 1 is gradient descent. At the first steps there are fewer
            gradients. It stays fixed for a parameter once that has stepped.
        temperature: :math:`T`, above 0, or ``math.inf``.
        score: ``"cosine"``, or ``"dot"`` for :math:`s_i = \langle g_t, g_{t-i}\rangle/\sqrt n`,
            which changes with the scale of the loss.
        weight_decay: :math:`\lambda \ge 0`; adds :math:`\lambda\theta_t` to the gradient, before
            it is weighed and remembered.

    Raises:
        InputError: a coefficient lies outside its range, here or in a group at a later step.
        RuntimeError: a gradient is sparse or complex.

    Source: ours; for the weights Vaswani et al. (2017), equation 1.

    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = AttentionSGD([weight], lr=0.1, window=2, temperature=float("inf"))
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (0.5 * weight**2).sum().backward()
    ...     optimizer.step()
    >>> round(weight.item(), 3)  # 1 - 0.1 * 1 = 0.9, and 0.9 - 0.1 * (0.9 + 1) / 2
    0.805
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        window: int = 5,
        temperature: float = 1.0,
        score: str = "cosine",
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "window": window,
            "temperature": temperature,
            "score": score,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

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
        moving = [
            (p, p.grad, group)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        # Everything that can be refused is refused before the first parameter moves.
        for p, grad, group in moving:
            self._check_fit(p, grad, group["window"])
        for p, grad, group in moving:
            self._advance(p, grad, group)
        return loss

    def _check_fit(self, p: torch.Tensor, grad: torch.Tensor, window: int) -> None:
        """Raise what :meth:`step` promises for a gradient, or for a window that has changed."""
        if grad.is_sparse or grad.is_complex():
            raise RuntimeError(
                "AttentionSGD takes no sparse and no complex gradients: build an embedding with "
                "sparse=False"
            )
        past = self.state[p]["past"] if p in self.state else None
        if past is not None and len(past) != window - 1:
            raise InputError(
                f"window must stay {len(past) + 1} once a parameter has stepped, got {window}: "
                "make a new optimizer"
            )

    def _advance(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        """Weigh the gradients, step, and write the present one over the oldest."""
        decay = float(group["weight_decay"])
        query = (grad if decay == 0.0 else grad.add(p, alpha=decay)).reshape(-1)
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["past"] = query.new_zeros(group["window"] - 1, query.numel())
            state["squares"] = [0.0] * (group["window"] - 1)
        past, squares, step = state["past"], state["squares"], state["step"]
        filled = min(step, len(squares))
        kept = past[:filled]  # in no order: the weights do not depend on the age
        # The square of a norm above 256 is no float16; for wider types this copies nothing.
        wide = query.to(torch.promote_types(query.dtype, torch.float32))
        square, *others = torch.cat([wide.dot(wide)[None], kept.to(wide.dtype) @ wide]).tolist()
        weights = attention_weights(
            [square, *others],
            [square, *squares[:filled]],
            entries=max(query.numel(), 1),
            temperature=float(group["temperature"]),
            score=group["score"],
        )
        direction = weights[0] * query
        if filled:
            direction += query.new_tensor(weights[1:]) @ kept
        p.sub_(direction.view_as(p), alpha=float(group["lr"]))
        if squares:
            slot = step % len(squares)
            past[slot] = query
            squares[slot] = square
        state["step"] = step + 1


def _check(group: dict[str, Any]) -> None:
    """Raise InputError unless the coefficients of a group can be used."""
    lr, decay, window = float(group["lr"]), float(group["weight_decay"]), group["window"]
    if not (math.isfinite(lr) and lr >= 0.0):
        raise InputError(f"lr must be finite and at least 0, got {lr}")
    if not (isinstance(window, int) and window >= 1):
        raise InputError(f"window must be a whole number of at least 1, got {window}")
    if not (math.isfinite(decay) and decay >= 0.0):
        raise InputError(f"weight_decay must be finite and at least 0, got {decay}")
    check_attention(float(group["temperature"]), group["score"])
