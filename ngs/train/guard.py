"""The guard: looks at every training step before it is taken, and acts by a stated policy.

It rests on torch, and on the policy, the detectors and the probes beside it.
"""

import copy
import logging
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import nn

from ngs.train.anomalies import Plateau, RunningMedian
from ngs.train.policy import ACT, Event, Limits, Policy, StoppedByGuardError
from ngs.train.probes import (
    RECTIFIERS,
    dead_share,
    gains,
    norms,
    odd_gains,
    total,
    watched,
)

State = dict[str, Any]
Batch = Iterable[int] | torch.Tensor | Callable[[], Iterable[int]]

LOGGER = logging.getLogger(__name__)
FLOOR = 0.05
"""Smallest scale of the loss's z-score, as a share of the first median of the loss."""
FLOOR_OF_LOGARITHM = 0.15
"""Smallest scale of the z-scores of norms: a spike is some six times what is usual, or more."""


class Stateful(Protocol):
    """Something that can be put back together with the weights: a running mean of them, say."""

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` needs."""

    def load_state_dict(self, state: State, /) -> object:
        """Go to where :meth:`state_dict` was called."""


class Guard:
    """Watch a training run, and act on anomalies before they do damage.

    Three lines guard any loop with any optimizer of torch::

        guard = Guard(model, optimizer)
        for number, (inputs, labels) in enumerate(batches):
            ...
            loss.backward()
            guard.step(loss)  # in place of optimizer.step()
        print(guard.report())

    A run in which nothing happens is not changed by a bit. A spike in one step is taken for the
    batch's fault: the step is left out, or its gradient clipped. Several in a row are the weights'
    fault: these go back to the last good copy, and the learning rate is lowered for a while. Where
    the very next losses stand out too, the weights are known to be good, and it is the data that
    have changed.

    Args:
        model: the network.
        optimizer: any optimizer of torch; the guard lowers the ``lr`` of its groups, for the length
            of a step, so that a schedule does not notice.
        policy: what is done about what.
        limits: what is an anomaly.
        parts: what else goes back with the weights.
        tell: is handed every new event; by default its line is logged as a warning.

    Attributes:
        events: what happened so far.
        ceilings: largest learning rate of each group for a while after a roll-back, else ``None``.
        steps: how many there were, those left out included.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        policy: Policy = ACT,
        limits: Limits = Limits(),  # noqa: B008 (it is frozen)
        *,
        parts: Sequence[Stateful] = (),
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        self.model, self.optimizer, self.policy, self.limits = model, optimizer, policy, limits
        self.parts, self.tell = tuple(parts), tell or (lambda event: LOGGER.warning(event.line()))
        self.events: list[Event] = []
        self.steps = 0
        self.ceilings: list[float] | None = None
        self._bad = self._quiet = self._rollbacks = 0
        self._fresh = False  # no good step yet since a roll-back
        self._loss = RunningMedian(limits.window, limits.least)
        self._norm = RunningMedian(
            limits.window, limits.least, floor=FLOOR_OF_LOGARITHM
        )  # of the logarithm
        self._change = RunningMedian(
            limits.window, min(8, limits.window), floor=FLOOR_OF_LOGARITHM
        )  # likewise
        self._plateau = Plateau(math.ceil(limits.plateau / limits.every))
        self._good = self._candidate = self._copy()
        self._buffers = [buffer.clone() for buffer in model.buffers()]
        self._hooks = ExitStack()
        self._dead: dict[str, float] = {}

    def check_start(self, inputs: torch.Tensor) -> list[Event]:
        """Look at the gain of every layer before the first step, and repair what is far off.

        Args:
            inputs: two or more, as the network will get them.

        Returns:
            What was found.

        Raises:
            StoppedByGuardError: the policy says so.
        """
        found: list[Event] = []
        while True:
            odd = odd_gains(gains(self.model, inputs), self.limits.gain)
            name = next((n for n in odd if n not in {event.where for event in found}), None)
            if name is None:
                break
            text = f"layer {name} has {odd[name]:.2g} times the gain of the others"
            event = self._note("start", text, value=odd[name], typical=1.0, where=name)
            found.append(event)
            if event.action == "repair":  # the layers after it are judged anew
                with torch.no_grad():
                    weight = self.model.get_submodule(name).weight
                    weight.div_(odd[name])  # type: ignore[operator]
        if found:
            self._good = self._candidate = self._copy()
        return found

    def step(
        self,
        loss: torch.Tensor | float,
        batch: Batch = (),
        take: Callable[[], object] | None = None,
    ) -> bool:
        """Take the step, or leave it out; call it after ``backward``.

        Args:
            loss: of this batch, before the step.
            batch: the numbers of its inputs in the data set, for the report; or a function that
                returns them, which is called where something is wrong.
            take: takes the step; ``optimizer.step`` if nothing is given.

        Returns:
            Whether the step was taken.

        Raises:
            StoppedByGuardError: the policy says so.
        """
        self.steps += 1
        named = [(n, p) for n, p in self.model.named_parameters() if p.grad is not None]
        sizes = norms([p.grad for _, p in named if p.grad is not None])
        mean, norm = float(torch.as_tensor(loss).detach()), total(sizes)
        action = self._judge(
            mean, norm, dict(zip((n for n, _ in named), sizes, strict=True)), batch
        )
        dead, self._dead = self._dead, {}
        self._hooks.close()
        sampled = self.steps % self.limits.every == 0
        taken = action not in ("skip", "roll back")
        if action == "clip":
            typical = math.exp(self._norm.median)
            torch._foreach_mul_([p.grad for _, p in named if p.grad is not None], typical / norm)
        if taken:
            before = [p.detach().clone() for _, p in named] if sampled else []
            self._take(take or self.optimizer.step)
            self._learn(mean, norm)
            if before:
                self._look_closely(named, before, sizes, dead)
            _copy_all(self._buffers, list(self.model.buffers()))
        if (self.steps + 1) % self.limits.every == 0:
            self._dead = self._hooks.enter_context(watched(self.model, RECTIFIERS, dead_share))
        return taken

    def report(self) -> str:
        """Return all events, one a line."""
        lines = [event.line() for event in self.events]
        return "\n".join(lines) or f"no anomaly in {self.steps:,} steps"

    def state_dict(self) -> State:
        """Return what a guard needs to go on; ``torch.load(weights_only=True)`` reads it."""
        return {
            "events": [asdict(event) for event in self.events],
            "numbers": [self.steps, self._bad, self._quiet, self._rollbacks],
            "ceilings": self.ceilings,
            "fresh": self._fresh,
            "windows": self._windows(),
            "change": self._change.state_dict(),
            "good": self._good,
            "candidate": self._candidate,
            "buffers": self._buffers,
        }

    def load_state_dict(self, state: State) -> None:
        """Go to where :meth:`state_dict` was called; model and optimizer are restored elsewhere."""
        self.events = [Event(**event) for event in state["events"]]
        self.steps, self._bad, self._quiet, self._rollbacks = state["numbers"]
        self.ceilings = state["ceilings"]
        self._fresh = state["fresh"]
        self._load_windows(state["windows"])
        self._change.load_state_dict(state["change"])
        self._good, self._candidate = state["good"], state["candidate"]
        for mine, theirs in zip(self._buffers, state["buffers"], strict=True):
            mine.copy_(theirs)
        self._hooks.close()
        self._dead = {}
        if (self.steps + 1) % self.limits.every == 0:
            self._dead = self._hooks.enter_context(watched(self.model, RECTIFIERS, dead_share))

    def _judge(self, loss: float, norm: float, sizes: dict[str, float], batch: Batch) -> str:
        """Find out what is wrong with a step, if anything, and return what is to be done."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            bad = [name for name, size in sizes.items() if not math.isfinite(size)]
            what = f"the loss is {loss}" if not math.isfinite(loss) else "the loss is finite"
            some = f"the gradient of {', '.join(bad[:3])}" + (" and others" if bad[3:] else "")
            text = f"{what}, and {some} is not finite" if bad else what
            event = self._note("nonfinite", text, where=bad[0] if bad else "", batch=batch)
        elif self._loss.score(loss) > self.limits.z:
            typical = self._loss.median
            text = f"the loss is {loss:.4g}, after a median of {typical:.4g}"
            event = self._note("loss", text, value=loss, typical=typical, batch=batch)
        else:
            self._bad = 0
            if norm == 0.0 or self._norm.score(math.log(norm)) <= self.limits.z_gradient:
                return ""
            typical = math.exp(self._norm.median)
            text = f"the gradient's norm is {norm:.4g}, after a median of {typical:.4g}"
            return self._note("gradient", text, value=norm, typical=typical, batch=batch).action
        self._bad, self._quiet = self._bad + 1, 0
        if event.action == "skip":
            _copy_all(list(self.model.buffers()), self._buffers)
        return self._blame() if self._bad >= self.limits.confirm else event.action

    def _blame(self) -> str:
        """Decide, after several anomalous steps in a row, between the weights and the data."""
        row = f"{self._bad} anomalous steps in a row"
        self._bad = 0
        if self._fresh:
            self._note(
                "data",
                f"{row} right after going back to weights that were good: the inputs or labels "
                "have changed, look at the batches named above",
            )
            self._fresh = False  # the policy goes on with them: what is usual begins anew
            self._loss.values.clear()
            self._norm.values.clear()
            return "warn"
        action = self._note("weights", f"{row}: the weights are damaged").action
        if action == "roll back":
            self._roll_back()
        return action

    def _roll_back(self) -> None:
        """Go back to the last good copy, and lower the learning rates."""
        self._rollbacks += 1
        if self._rollbacks > self.limits.rollbacks:
            raise StoppedByGuardError(
                f"the run went back to good weights {self.limits.rollbacks} times and did not get "
                "better: lower the learning rate, and look at the first of the events",
                self.events,
            )
        scheduled = [group["lr"] for group in self.optimizer.param_groups]
        used = self._rates()
        for part, state in zip(self._movable(), self._good["parts"], strict=True):
            part.load_state_dict(copy.deepcopy(state))  # or its tensors would become the part's own
        for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate  # where the schedule is now, which does not go back
        self._load_windows(self._good["windows"])
        _copy_all(self._buffers, list(self.model.buffers()))
        self._candidate = self._good
        # Where the rate had jumped, that was the reason: what was good enough before is so again.
        both = zip(used, self._good["rates"], strict=True)
        self.ceilings = [min(self.limits.lower * now, then) for now, then in both]
        self._fresh, self._quiet = True, 0

    def _rates(self) -> list[float]:
        """Return the learning rates of a step taken now."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if self.ceilings is None:
            return rates
        return [min(pair) for pair in zip(rates, self.ceilings, strict=True)]

    def _take(self, take: Callable[[], object]) -> None:
        """Take the step below the ceilings, and put the schedule's learning rates back."""
        groups = self.optimizer.param_groups
        scheduled = [group["lr"] for group in groups]
        try:
            if self.ceilings is not None:
                for group, rate in zip(groups, self._rates(), strict=True):
                    group["lr"] = rate
            take()
        finally:
            for group, rate in zip(groups, scheduled, strict=True):
                group["lr"] = rate

    def _learn(self, loss: float, norm: float) -> None:
        """Take a step that was made into what is usual."""
        if math.isfinite(loss):
            self._loss.add(loss)
            if self._loss.floor == 0.0 and self._loss.ready:
                self._loss.floor = FLOOR * abs(self._loss.median)
        if 0.0 < norm < math.inf:
            self._norm.add(math.log(norm))
        if self._bad:
            return
        self._fresh = False
        self._quiet += 1
        if self.ceilings is not None and self._quiet % self.limits.recover == 0:
            rates = [float(group["lr"]) for group in self.optimizer.param_groups]
            self.ceilings = [ceiling / self.limits.lower for ceiling in self.ceilings]
            if all(rate <= ceiling for rate, ceiling in zip(rates, self.ceilings, strict=True)):
                self.ceilings = None

    def _look_closely(
        self,
        named: list[tuple[str, nn.Parameter]],
        before: list[torch.Tensor],
        sizes: list[float],
        dead: dict[str, float],
    ) -> None:
        """Look at what is dear to look at, and keep a copy of the weights."""
        weights = norms(before)
        changes = torch._foreach_sub([p.detach() for _, p in named], before)
        moved, weight = total(norms(changes)), total(weights)
        if 0.0 < moved < math.inf and weight > 0.0:
            share = math.log(moved / weight)
            if self._change.score(share) > self.limits.z_gradient:
                typical = math.exp(self._change.median)
                text = f"the step changed the weights by {moved / weight:.2g} of their norm, after "
                text += f"a median of {typical:.2g}"
                self._note("update", text, value=moved / weight, typical=typical)
            self._change.add(share)
        self._compare_layers(
            {
                name: size / weight
                for (name, p), size, weight in zip(named, sizes, weights, strict=True)
                if p.ndim > 1 and weight > 0.0
            }
        )
        for name, share in dead.items():
            if share > self.limits.dead:
                text = f"{share:.0%} of the units of {name} are 0 for the whole batch"
                self._note("dead", text, value=share, where=name)
        if self._loss.ready and self._plateau(self._loss.median):
            text = f"the loss stays at a median of {self._loss.median:.4g}"
            self._note("plateau", text, value=self._loss.median)
        if not self._bad:
            self._good, self._candidate = self._candidate, self._copy()

    def _compare_layers(self, relative: dict[str, float]) -> None:
        """Find layers whose gradient, relative to their weights, is unlike that of the others."""
        if not relative:
            return
        typical = statistics.median(relative.values())
        for name, size in relative.items():
            if size < typical / self.limits.depth:
                kind = "vanishing"
            elif size > typical * self.limits.depth:
                kind = "exploding"
            else:
                continue
            text = f"the gradient of {name}, relative to its weights, is {size:.2g}; the median "
            text += f"layer's is {typical:.2g}"
            self._note(kind, text, value=size, typical=typical, where=name)

    def _note(
        self,
        kind: str,
        text: str,
        *,
        value: float | None = None,
        typical: float | None = None,
        where: str = "",
        batch: Batch = (),
    ) -> Event:
        """Write an event down, and stop where the policy says so."""
        action: str = getattr(self.policy, kind)
        if action == "warn":  # one event stands for a row of them
            for event in reversed(self.events):
                if (event.kind, event.where) == (kind, where):
                    if event.last + self.limits.every < self.steps:
                        break
                    event.last, event.count = self.steps, event.count + 1
                    return event
        numbers = [int(n) for n in (batch() if callable(batch) else batch)]
        event = Event(kind, self.steps, action, text, value, typical, where, numbers, self.steps)
        self.events.append(event)
        self.tell(event)
        if action == "stop":
            raise StoppedByGuardError(event.line(), self.events)
        return event

    def _movable(self) -> tuple[Stateful, ...]:
        return (self.model, self.optimizer, *self.parts)

    def _copy(self) -> State:
        """Return a copy of all that goes back together."""
        return {
            "parts": [copy.deepcopy(part.state_dict()) for part in self._movable()],
            "rates": self._rates(),
            "windows": self._windows(),
        }

    def _windows(self) -> State:
        return {
            "loss": self._loss.state_dict(),
            "norm": self._norm.state_dict(),
            "plateau": self._plateau.state_dict(),
        }

    def _load_windows(self, state: State) -> None:
        self._loss.load_state_dict(state["loss"])
        self._norm.load_state_dict(state["norm"])
        self._plateau.load_state_dict(state["plateau"])


def _copy_all(to: list[torch.Tensor], source: list[torch.Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)
