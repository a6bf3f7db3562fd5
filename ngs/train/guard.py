"""The guard: looks at every training step before it is taken, and acts by a stated policy.

It rests on torch, and on policy, probes, recovery and what is usual beside it.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from ngs.errors import InputError
from ngs.train.policy import ACT, Event, Limits, Policy, StoppedByGuardError
from ngs.train.probes import (
    RECTIFIERS,
    dead_share,
    gains,
    norms,
    odd_gains,
    odd_gradients,
    own_weight,
    total,
    watched,
)
from ngs.train.recovery import Recovery, State, Stateful
from ngs.train.usual import Usual

Batch = Iterable[int] | torch.Tensor | Callable[[], Iterable[int]]
"""The numbers of a batch's images, or a function that returns them when they are wanted."""
Named = list[tuple[str, nn.Parameter, torch.Tensor]]
"""Name, parameter and gradient of all that have one."""

LOGGER = logging.getLogger(__name__)


class Guard:
    """Watch a training run, and act on anomalies before they do damage.

    Three lines guard any loop::

        guard = Guard(model, optimizer)
        for inputs, labels in batches:
            ...
            loss.backward()
            guard.step(loss)  # in place of optimizer.step()
        print(guard.report())

    A run in which nothing happens is not changed by a bit. A spike in one step is taken for the
    batch's fault: the step is left out, or its gradient clipped. Several in a row are the weights'
    fault: these go back to the last good copy, and the learning rate is lowered for a while. Where
    the very next losses stand out too, with those weights, it is the data that have changed.

    It works with any optimizer of torch that takes its step in ``step()``: not with LBFGS, which
    asks for losses itself. Make it after the weights are loaded. Two copies of weights and
    optimizer state stay in memory. Where several processes train one network, all of them act on
    the largest of their losses. Dead units are not seen in a network that ``torch.compile``
    compiled.

    Args:
        model: the network.
        optimizer: its optimizer; the guard lowers the ``lr`` of its groups, for the length of a
            step, so that a schedule does not notice.
        policy: what is done about what.
        limits: what is an anomaly.
        parts: what else goes back with the weights.
        scaler: that of a run in float16. Steps that it leaves out are no anomalies; the guard calls
            its ``unscale_``, ``step`` and ``update``.
        tell: is handed every new event; by default its line is logged as a warning.

    Attributes:
        events: what happened so far.
        steps: how many there were, those left out included.
        recovery: what the run may go back to.

    Raises:
        InputError: the optimizer is LBFGS.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        policy: Policy = ACT,
        limits: Limits = Limits(),  # noqa: B008 (it is frozen)
        *,
        parts: Sequence[Stateful] = (),
        scaler: torch.amp.GradScaler | None = None,
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise InputError("the guard cannot watch LBFGS, which computes several losses a step")
        self.model, self.optimizer, self.policy, self.limits = model, optimizer, policy, limits
        self.scaler = scaler
        self.tell = tell or (lambda event: LOGGER.warning(event.line()))
        self.events: list[Event] = []
        self.steps = 0
        self._bad = self._quiet = self._rollbacks = 0
        self._fresh = False  # no good step yet since a roll-back
        self._spikes: deque[int] = deque(maxlen=limits.rare)  # steps of single ones
        self.usual = Usual(limits)
        self.recovery = Recovery(model, optimizer, parts, keep=policy.weights == "roll back")
        self.recovery.restart(self.usual.at_the_copy())
        self._parameters = list(model.named_parameters())
        self._hooks = ExitStack()
        self._dead: dict[str, float] = {}

    def check_start(self, inputs: torch.Tensor) -> list[Event]:
        """Look at the gain of every layer before the first step, and repair what is far off.

        Where several processes train one network, call it before it is wrapped for that.

        Args:
            inputs: two or more, as the network will get them.

        Returns:
            What was found.

        Raises:
            StoppedByGuardError: the policy says so.
        """
        found: dict[str, Event] = {}
        while True:
            odd = odd_gains(gains(self.model, inputs), self.limits.gain_ratio)
            finding = next((f for f in odd if f.where not in found), None)
            if finding is None:
                break
            _, name, value, typical = finding
            weight = own_weight(self.model, name)
            repair = self.policy.start == "repair" and weight is not None
            text = f"layer {name} has {value / typical:.2g} times the gain of the others"
            event = self._note(
                "start",
                text,
                action="warn" if self.policy.start == "repair" and not repair else "",
                value=value,
                typical=typical,
                where=name,
            )
            found[name] = event
            if repair and weight is not None:  # the layers after it are judged anew
                with torch.no_grad():
                    weight.mul_(typical / value)
        if found:
            self.recovery.restart(self.usual.at_the_copy())
        return list(found.values())

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
        dead = dict(self._dead)
        self.close()
        self.recovery.follow_groups(self.usual.at_the_copy)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.steps % self.limits.every == 1 or self.limits.every == 1:
            self._parameters = list(self.model.named_parameters())  # some may have come or gone
        named = [(n, p, p.grad) for n, p in self._parameters if p.grad is not None]
        sizes = norms([grad for *_, grad in named])
        mean, norm = _everywhere(float(torch.as_tensor(loss).detach()), self.model), total(sizes)
        if self.scaler is not None and math.isfinite(mean) and not math.isfinite(norm):
            action = "skip"  # the scale was too large, which the scaler sees too
        else:
            known = dict(zip((name for name, *_ in named), sizes, strict=True))
            action = self._judge(mean, norm, known, batch)
        taken = action not in ("skip", "roll back")
        if action == "clip":
            ratio = self.usual.norm / norm
            for *_, grad in named:
                grad.mul_(ratio)
        if taken:
            sampled = self.steps % self.limits.every == 0
            before = [p.detach().clone() for _, p, _ in named] if sampled else []
            self.recovery.take(take or self._take)
            self._learn(mean, norm)
            if before:
                self._look_closely(named, before, sizes, dead)
            self.recovery.keep_buffers()
        if self.scaler is not None and (take is None or not taken):
            self.scaler.update()
        self._sample_next()
        return taken

    def close(self) -> None:
        """Take the guard's hooks off the network, where there are any: training is over."""
        self._hooks.close()
        self._dead = {}

    def report(self) -> str:
        """Return all events, one a line."""
        lines = [event.line() for event in self.events]
        return "\n".join(lines) or f"no anomaly in {self.steps:,} steps"

    def state_dict(self) -> State:
        """Return what a guard needs to go on; ``torch.load(weights_only=True)`` reads it."""
        return {
            "events": [asdict(event) for event in self.events],
            "numbers": [self.steps, self._bad, self._quiet, self._rollbacks],
            "fresh": self._fresh,
            "spikes": list(self._spikes),
            "usual": self.usual.state_dict(),
            "recovery": self.recovery.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go to where :meth:`state_dict` was called; model and optimizer are restored elsewhere."""
        self.events = [Event(**event) for event in state["events"]]
        self.steps, self._bad, self._quiet, self._rollbacks = state["numbers"]
        self._fresh = state["fresh"]
        self._spikes.clear()
        self._spikes.extend(state["spikes"])
        self.usual.load_state_dict(state["usual"])
        self.recovery.load_state_dict(state["recovery"])
        self.close()
        self._sample_next()

    def _sample_next(self) -> None:
        """Have the activations of the next step read, if it is one that is looked at closely."""
        if (self.steps + 1) % self.limits.every == 0:
            self._dead = self._hooks.enter_context(watched(self.model, RECTIFIERS, dead_share))

    def _take(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)

    def _judge(self, loss: float, norm: float, sizes: dict[str, float], batch: Batch) -> str:
        """Find out what is wrong with a step, if anything, and return what is to be done."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        spike = finite and self.usual.is_spike(loss)
        if finite and not spike:
            return self._judge_gradient(norm, batch)
        if spike and self._is_frequent(loss):
            self._spikes.append(self.steps)
            return self._judge_gradient(norm, batch)
        kind, action = "loss", self.policy.loss
        if not finite:
            kind, action = "nonfinite", self.policy.nonfinite
        self._bad, self._quiet = self._bad + 1, 0
        if action != "warn":
            self.recovery.restore_buffers()
        if finite:
            typical = self.usual.losses.median
            text = f"the loss is {loss:.4g}, after a median of {typical:.4g}"
            self._note(kind, text, value=loss, typical=typical, batch=batch)
        else:
            bad = [name for name, size in sizes.items() if not math.isfinite(size)]
            text = f"the loss is {loss if not math.isfinite(loss) else 'finite'}"
            if bad:
                text += f", and the gradient of {', '.join(bad[:3])}"
                text += (" and others" if bad[3:] else "") + " is not"
                text += " finite" if math.isfinite(loss) else ""
            self._note(kind, text, where=bad[0] if bad else "", batch=batch)
        if self._bad < self.limits.in_a_row:
            return action
        blamed = self._blame(finite=finite)
        return action if blamed == "warn" and not finite else blamed

    def _judge_gradient(self, norm: float, batch: Batch) -> str:
        """Find out whether the gradient of a step stands out whose loss does not."""
        if self._bad == 1:
            self._spikes.append(self.steps - 1)  # the step before was a single one
        self._bad = 0
        if not self.usual.norm_stands_out(norm):
            return ""
        typical = self.usual.norm
        text = f"the gradient's norm is {norm:.4g}, after a median of {typical:.4g}"
        action = self._note("gradient", text, value=norm, typical=typical, batch=batch).action
        if action == "skip":
            self.usual.learn_norm(norm)  # or a norm that has risen for good would end training
            self.recovery.restore_buffers()
        return action

    def _is_frequent(self, loss: float) -> bool:
        """Return whether single spikes like this belong to the run: a rare class, another loss."""
        if self._bad or self._fresh or len(self._spikes) < self.limits.rare:
            return False
        earliest, latest = self._spikes[0], self._spikes[-1]
        recent = earliest >= self.steps - self.limits.window and latest < self.steps - 1
        return recent and self.usual.may_be_rare(loss)

    def _blame(self, *, finite: bool) -> str:
        """Decide, after several anomalous steps in a row, between the weights and the data."""
        row = f"{self._bad} anomalous steps in a row"
        self._bad = 0
        if self._fresh:
            text = f"{row} right after going back to weights that were good: the inputs or labels "
            self._note("data", text + "have changed, look at the batches named above")
            if finite:  # the policy goes on with them: what is usual begins anew
                self._fresh = False
                self.usual.forget()
                self.recovery.restart(self.usual.at_the_copy())
            return "warn"
        if self.policy.weights == "roll back" and self._rollbacks == self.limits.rollbacks:
            text = f"{row}, after going back to good weights {self._rollbacks} times in vain: "
            self._note("weights", text + "lower the learning rate", action="stop")
        action = self._note("weights", f"{row}: the weights are damaged").action
        if action == "roll back":
            self._rollbacks += 1
            self.usual.go_back(self.recovery.roll_back(self.limits.lower))
            self._fresh = True
        return action

    def _learn(self, loss: float, norm: float) -> None:
        """Take a step that was made into what is usual."""
        self.usual.learn(loss, norm)
        if self._bad:
            return
        self._fresh = False
        self._quiet += 1
        if self.recovery.held_down and self._quiet % self.limits.quiet_steps == 0:
            self.recovery.let_go(1.0 / self.limits.lower)
            if not self.recovery.held_down:
                self._rollbacks = 0

    def _look_closely(
        self, named: Named, before: list[torch.Tensor], sizes: list[float], dead: dict[str, float]
    ) -> None:
        """Look at what is dear to look at, and keep a copy of the weights."""
        weights = norms(before)
        torch._foreach_sub_(before, [p.detach() for _, p, _ in named])
        moved, weight = total(norms(before)), total(weights)
        before.clear()
        self._look_at_update(moved, weight)
        relative = {
            name: size / weight
            for (name, p, _), size, weight in zip(named, sizes, weights, strict=True)
            if p.ndim > 1 and weight > 0.0
        }
        for kind, where, value, typical in odd_gradients(relative, self.limits.layer_ratio):
            text = f"the gradient of {where} is {value:.2g} times its weights; the median layer's "
            self._note(kind, text + f"is {typical:.2g}", value=value, typical=typical, where=where)
        for where, share in dead.items():
            if share > self.limits.dead_share:
                text = f"{share:.0%} of the units of {where} are 0 for the whole batch"
                self._note("dead", text, value=share, where=where)
        if self.usual.is_level():
            median = self.usual.losses.median
            self._note("plateau", f"the loss stays at a median of {median:.4g}", value=median)
        if not self._bad and math.isfinite(moved):
            self.recovery.advance(self.usual.at_the_copy())

    def _look_at_update(self, moved: float, weight: float) -> None:
        if moved == 0.0 or weight == 0.0:
            return
        if not math.isfinite(moved):
            self._note("update", "the step left weights that are not finite")
            return
        typical = self.usual.update_stands_out(moved / weight)
        if typical is not None:
            text = f"the step changed the weights by {moved / weight:.2g} of their norm, after a "
            text += f"median of {typical:.2g}"
            self._note("update", text, value=moved / weight, typical=typical)

    def _note(
        self,
        kind: str,
        text: str,
        *,
        action: str = "",
        value: float | None = None,
        typical: float | None = None,
        where: str = "",
        batch: Batch = (),
    ) -> Event:
        """Write an event down, and stop where that is the action (the policy's by default)."""
        action = action or getattr(self.policy, kind)
        if action == "warn":  # one event stands for a row of them
            for event in reversed(self.events):
                if (event.kind, event.where) == (kind, where):
                    if event.last + self.limits.every < self.steps:
                        break
                    event.last, event.count = self.steps, event.count + 1
                    return event
        event = Event(
            kind,
            self.steps,
            action,
            text,
            value if value is not None and math.isfinite(value) else None,
            typical if typical is not None and math.isfinite(typical) else None,
            where,
            _numbers(batch),
            self.steps,
        )
        self.events.append(event)
        self.tell(event)
        if action == "stop":
            self.close()
            raise StoppedByGuardError(event.line(), self.events)
        return event


def _numbers(batch: Batch) -> list[int]:
    """Return the numbers of a batch's inputs; none where they are no numbers."""
    given: Any = batch() if callable(batch) else batch
    try:
        return [int(number) for number in given]
    except (TypeError, ValueError):
        return []  # a report that lacks them is better than a run that ends for them


def _everywhere(loss: float, model: nn.Module) -> float:
    """Return the largest loss of all processes that train one network together."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return loss
    device = next(model.parameters()).device
    largest = torch.tensor(loss if math.isfinite(loss) else math.inf, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return float(largest)
