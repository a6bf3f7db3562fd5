"""Parameters that are stored at the look-ahead point, and the way to the true iterate and back.

It rests on torch alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Group = dict[str, Any]


class StoredAhead(torch.optim.Optimizer):
    r"""An optimizer whose parameters hold :math:`y_t = \theta_t + \beta_t v_t`.

    The state of a parameter has ``momentum_buffer`` :math:`= -v_t/s_{t-1}`, ``scale``
    :math:`= s_{t-1}` and ``momentum`` :math:`= \beta_t`; a group has the flag ``at_iterate``.
    """

    _lookahead_points: dict[torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def at_iterate(self) -> Iterator[None]:
        r"""Hold :math:`\theta_t` in the parameters inside the block, :math:`y_t` again after it.

        For evaluation, and for checkpoints of the model. What was there is put back bit by bit;
        changes of the parameters inside the block are lost. Inside it the parameters are kept
        twice.

        A module of ``fully_shard`` that keeps its gathered parameters after a forward pass, as the
        root does, sees a change of them only after its ``reshard()``: with no backward pass in
        between, call that before the block and at its end.

        Raises:
            RuntimeError: the parameters hold the iterate already.
        """
        self.to_iterate()
        try:
            yield
        finally:
            self.to_lookahead()

    @torch.no_grad()
    def to_iterate(self) -> None:
        r"""Put :math:`\theta_t = y_t - \beta_t v_t` into the parameters; see :meth:`at_iterate`.

        Raises:
            RuntimeError: they hold it already.
        """
        if any(group["at_iterate"] for group in self.param_groups):
            raise RuntimeError("the parameters hold the iterate already: call to_lookahead() first")
        kept = {p: p.detach().clone() for p in self.state if self.state[p].get("scale", 0.0) != 0.0}
        self._shift(1.0)
        self._lookahead_points = kept
        for group in self.param_groups:
            group["at_iterate"] = True

    @torch.no_grad()
    def to_lookahead(self) -> None:
        r"""Put the look-ahead point back; does nothing where it is there already.

        After a state was loaded that had been saved at the iterate, :math:`y_t` is computed anew,
        to rounding. (:meth:`step` does so too, but by then the gradient has been taken at
        :math:`\theta_t`: that one step is the heavy ball's.)
        """
        away = [group for group in self.param_groups if group["at_iterate"]]
        if not away:
            return
        if self._lookahead_points is None:
            self._shift(-1.0, away)
        else:
            for p, point in self._lookahead_points.items():
                p.copy_(point)
            self._lookahead_points = None
        for group in away:
            group["at_iterate"] = False

    def _shift(self, sign: float, groups: list[Group] | None = None) -> None:
        """Add ``sign`` times -beta_t v_t to every parameter that has a velocity."""
        for group in self.param_groups if groups is None else groups:
            for p in group["params"]:
                state = self.state.get(p, {})
                if state.get("scale", 0.0) != 0.0:
                    upwards = sign * state["momentum"] * state["scale"]
                    p.add_(state["momentum_buffer"], alpha=upwards)
