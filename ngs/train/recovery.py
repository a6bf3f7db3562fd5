"""The way back for a guarded run: copies of good weights, of buffers, and lowered learning rates.

It rests on torch alone.
"""

import copy
import math
import operator
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
        self.find_buffers()

    # Buffers, such as the averages of batch normalisation

    def keep_buffers(self) -> None:
        """Copy the buffers as they are after a good step."""
        now = [owner._buffers.get(key) for owner, key in self._owners]
        count = sum(len(module._buffers) for module in self._modules)
        if count == self._count and all(map(operator.is_, now, self._seen)):
            if now:
                torch._foreach_copy_(list(self.buffers.values()), self._seen)
            return
        self.find_buffers()

    def find_buffers(self) -> None:
        """Look for buffers that are new or gone, and copy all."""
        named = dict(self.model.named_buffers())
        self.buffers = {name: buffer.clone() for name, buffer in named.items()}
        self._seen = list(named.values())
        self._modules = list(self.model.modules())
        self._count = sum(len(module._buffers) for module in self._modules)
        places = (name.rpartition(".") for name in named)
        self._owners = [(self.model.get_submodule(path), key) for path, _, key in places]

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
        self.find_buffers()

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
            part.load_state_dict(cloned(state))  # or its tensors would become the part's own

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
            "parts": [cloned(part.state_dict()) for part in self._movable()],
            "rates": self.rates(),
            "sizes": self._sizes(),
            "windows": windows,
        }

    def _movable(self) -> tuple[Stateful, ...]:
        return (self.model, self.optimizer, *self.parts)

    def _sizes(self) -> list[int]:
        return [len(group["params"]) for group in self.optimizer.param_groups]


def cloned(state: Any) -> Any:
    """Return a state whose tensors are copies; quicker than ``copy.deepcopy``."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: cloned(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(cloned(value) for value in state)
    return copy.deepcopy(state)


def _kind(tensor: torch.Tensor) -> object:
    return tensor.shape, tensor.dtype, tensor.device
