"""The way back for a guarded run: copies of good weights, of buffers, and lowered learning rates.

It rests on torch alone.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn

State = dict[str, Any]


class Stateful(Protocol):
    """Something that can be put back together with the weights: a running mean of them, say."""

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` needs."""

    def load_state_dict(self, state: State, /) -> object:
        """Go to where :meth:`state_dict` was called."""


class Recovery:
    """Keep what a run may go back to, and hold its learning rates down for a while after that.

    Args:
        model: the network.
        optimizer: of torch, whose learning rates lie in its groups.
        parts: what else goes back with the weights.
        keep: whether copies of the weights are kept at all.

    Attributes:
        ceilings: largest learning rate of each group; infinite where it is not held down.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parts: Sequence[Stateful],
        *,
        keep: bool,
    ) -> None:
        self.model, self.optimizer, self.parts, self.keep = model, optimizer, tuple(parts), keep
        self.ceilings = [math.inf] * len(optimizer.param_groups)
        self.good: State = {}
        self.candidate: State = {}
        self.buffers: dict[str, torch.Tensor] = {}
        self.keep_buffers()

    # Buffers, such as the averages of batch normalisation

    def keep_buffers(self) -> None:
        """Copy the buffers as they are after a good step."""
        now = dict(self.model.named_buffers())
        if [_kind(b) for b in now.values()] == [_kind(b) for b in self.buffers.values()] and list(
            now
        ) == list(self.buffers):
            if now:
                torch._foreach_copy_(list(self.buffers.values()), list(now.values()))
        else:
            self.buffers = {name: buffer.clone() for name, buffer in now.items()}

    def restore_buffers(self) -> None:
        """Put the buffers back to where :meth:`keep_buffers` saw them."""
        for name, buffer in self.model.named_buffers():
            kept = self.buffers.get(name)
            if kept is not None and _kind(kept) == _kind(buffer):
                buffer.copy_(kept)

    # Weights

    def restart(self, windows: State) -> None:
        """Keep the weights as they are now, and forget all earlier ones."""
        self.good = self.candidate = {}
        if self.keep:
            self.good = self.candidate = self._copy(windows)

    def advance(self, windows: State) -> None:
        """Keep the weights as they are now; those that were kept last count as good from now on.

        Args:
            windows: what was usual for the guard at this moment.
        """
        if self.keep:
            self.good = self.candidate  # before the copy, or there would be three for a moment
            self.candidate = {}
            self.candidate = self._copy(windows)

    def follow_groups(self, windows: Callable[[], State]) -> None:
        """Start anew where the optimizer was given other groups, which no older copy fits."""
        groups = self.optimizer.param_groups
        self.ceilings += [math.inf] * (len(groups) - len(self.ceilings))
        if self.good and self.good["sizes"] != self._sizes():
            self.restart(windows())

    def roll_back(self, lower: float) -> State:
        """Go back to the last good copy, and hold the learning rates down.

        Args:
            lower: what the rates are multiplied by. Where a rate had jumped since the copy, that
                was the reason, and it goes back to what it was then.

        Returns:
            What was usual for the guard when the copy was made.
        """
        before = [dict(group) for group in self.optimizer.param_groups]
        used = self.rates()
        self.put_back()
        for group, old in zip(self.optimizer.param_groups, before, strict=True):
            for key, value in old.items():  # what a scheduler has put there since
                group.setdefault(key, value)
            group["lr"] = old["lr"]  # where the schedule is, which does not go back
        self.ceilings = [
            min(lower * now, then if then > 0.0 else math.inf) if now > 0.0 else math.inf
            for now, then in zip(used, self.good["rates"], strict=True)
        ]
        self.candidate = self.good
        self.keep_buffers()
        windows: State = self.good["windows"]
        return windows

    def put_back(self) -> None:
        """Put the last good weights back, with all that goes with them, where they are kept."""
        for part, state in zip(self._movable(), self.good.get("parts", ()), strict=False):
            part.load_state_dict(copy.deepcopy(state))  # or its tensors would become the part's own

    # Learning rates

    def rates(self) -> list[float]:
        """Return the learning rates of a step taken now."""
        groups = self.optimizer.param_groups
        both = zip(groups, self.ceilings, strict=True)
        return [min(float(group["lr"]), ceiling) for group, ceiling in both]

    def take(self, take: Callable[[], object]) -> None:
        """Take a step below the ceilings, and put the schedule's learning rates back."""
        groups = self.optimizer.param_groups
        if not self.held_down:
            take()
            return
        scheduled, used = [group["lr"] for group in groups], self.rates()
        for group, rate in zip(groups, used, strict=True):
            group["lr"] = rate
        try:
            take()
        finally:
            for group, rate, mine in zip(groups, scheduled, used, strict=True):
                if group["lr"] == mine:  # else ``take`` has set another
                    group["lr"] = rate

    def let_go(self, factor: float) -> None:
        """Raise the ceilings by a factor, and forget those that hold nothing down any more."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.ceilings = [
            ceiling * factor if ceiling * factor < rate else math.inf
            for rate, ceiling in zip(rates, self.ceilings, strict=True)
        ]

    @property
    def held_down(self) -> bool:
        """Whether a learning rate is held down."""
        return any(ceiling < math.inf for ceiling in self.ceilings)

    # State

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` needs."""
        return {
            "ceilings": self.ceilings,
            "good": self.good,
            "candidate": self.candidate,
            "buffers": self.buffers,
        }

    def load_state_dict(self, state: State) -> None:
        """Go to where :meth:`state_dict` was called."""
        self.ceilings, self.buffers = state["ceilings"], state["buffers"]
        self.good, self.candidate = state["good"], state["candidate"]

    def _copy(self, windows: State) -> State:
        return {
            "parts": [copy.deepcopy(part.state_dict()) for part in self._movable()],
            "rates": self.rates(),
            "sizes": self._sizes(),
            "windows": windows,
        }

    def _movable(self) -> tuple[Stateful, ...]:
        return (self.model, self.optimizer, *self.parts)

    def _sizes(self) -> list[int]:
        return [len(group["params"]) for group in self.optimizer.param_groups]


def _kind(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device
