"""The optimizer itself: what a step does, in which order, and what it refuses.

It rests on the kernel, the signals, the decisions and the states beside it.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch.optim.optimizer import ParamsT

from ngs.factor import FactorState, Rule
from ngs.optim.torch import control, states
from ngs.optim.torch.control import Entry, Options
from ngs.optim.torch.iterate import StoredAhead
from ngs.optim.torch.kernel import check_fused, exact_step
from ngs.optim.torch.shards import add_up, is_distributed, local, local_gradient
from ngs.optim.torch.signals import Signals, read_signals
from ngs.restart import GradientRestart, Memory
from ngs.schedules import Schedule

Group = dict[str, Any]


@dataclass(frozen=True)
class Report:
    r"""What the last step of :class:`NGS` saw and did.

    Attributes:
        lr: the learning rate that each group used, factor and clipping included.
        factor: the acceleration factor of each group.
        cosine: of gradient and direction travelled, for each group; ``None`` where it was not
            measured or one of the two is zero.
        grad_norm: norm of the whole gradient before clipping; ``None`` where it was not measured.
        restarted: whether the velocity was thrown away after the step.
        refused: names of the parameters whose gradient was not finite; if there is one, the step
            changed nothing.
    """

    lr: tuple[float, ...] = ()
    factor: tuple[float, ...] = ()
    cosine: tuple[float | None, ...] = ()
    grad_norm: float | None = None
    restarted: bool = False
    refused: tuple[str, ...] = ()


class NGS(StoredAhead):
    r"""Nesterov's method in the look-ahead form, for any schedule of learning rate and momentum.

    .. math:: v_{t+1} = \beta_t v_t - \eta_t \nabla f(\theta_t + \beta_t v_t), \qquad
              \theta_{t+1} = \theta_t + v_{t+1}

    The parameters of the model hold the look-ahead point :math:`y_t = \theta_t + \beta_t v_t`,
    where the gradient is wanted. ``torch.optim.SGD(nesterov=True)`` computes the same as long as
    both coefficients are constant, and another method as soon as one changes; this one stays
    exact. A step costs what a step of the fused ``SGD`` costs, in time and in memory.

    **Learning rate.** The group's ``lr`` at the moment of :meth:`step` number :math:`t` is
    :math:`\eta_t`; any ``torch.optim.lr_scheduler`` may change it between steps.

    **Momentum.** Given as a number, the coefficient that a group holds at step :math:`t` is
    :math:`\beta_{t+1}`: it forms the next look-ahead point. (:math:`\beta_0` multiplies a velocity
    of zero.) So a stock scheduler that cycles momentum, ``OneCycleLR`` say, gives the exact
    look-ahead method too, with the scheduler's sequence one step late: what it writes after step
    :math:`t` is :math:`\beta_{t+2}`. For the sequence itself, on time, hand it over as a callable,
    ``momentum=schedule``: then :math:`\beta_t` is ``schedule(t)``, on a clock that counts each
    parameter's own steps (see :mod:`ngs.schedules`), and the scheduler must not touch momentum
    (``cycle_momentum=False``; a step after it did raises an error).

    **Weight decay.** Coupled (the default) adds :math:`\lambda y_t` to the gradient, the gradient
    of :math:`\tfrac\lambda2\lVert\cdot\rVert^2` at the look-ahead point, after clipping. Decoupled
    subtracts :math:`\eta_t\lambda y_t` from the iterate and leaves the velocity alone; here
    :math:`\eta_t` has the factor but not the clipping in it.

    **Velocity.** Exact means that the velocity keeps its length when the learning rate drops. With
    ``rescale_velocity`` it shrinks and grows in proportion: before step :math:`t` and at the same
    stored point, :math:`v_t \leftarrow (\eta_t/\eta_{t-1})\,v_t` (the factor counts, clipping does
    not). With constant momentum that is ``torch.optim.SGD(nesterov=True)`` under a schedule of the
    learning rate; chapter 7 measures both. A step with learning rate 0 then does nothing.

    **Several processes.** With ``DistributedDataParallel`` every process takes the same step. With
    ``fully_shard`` or tensor parallelism (parameters that are DTensors) each process steps its own
    parts, by any of the kernels, and norms and inner products are those of the whole: they cost a
    collective a step for each dimension of the mesh over which parameters are cut, and steps that
    need none of them cost none. ``torch.distributed.checkpoint`` saves and loads the state. (The
    older ``FullyShardedDataParallel`` hides from an optimizer that its parameters are parts: there
    use neither factor, restart, ``max_norm`` nor ``check_finite``.)

    A parameter without a gradient is left alone, and its clock stands still. A first step whose
    learning rates and gradients are all zero does not count: ``torch.distributed.checkpoint`` takes
    it to make the state.

    Args:
        params: tensors, (name, tensor) pairs or parameter groups, as for every torch optimizer.
        lr: learning rate :math:`\eta`, finite and at least 0; a number or a tensor of one element
            (which is read at every step, and on an accelerator waited for).
        momentum: coefficient :math:`\beta` in [0, 1), or a schedule ``t -> coefficient``.
        weight_decay: :math:`\lambda \ge 0`.
        decoupled_weight_decay: how weight decay acts, see above.
        rescale_velocity: whether the velocity follows the learning rate, see above.
        factor: rule of the acceleration factor, for example
            :class:`ngs.factor.AngleRule`; ``None`` for no factor. The learning rate of a
            step is the group's ``lr`` times its factor, kept in the group as ``factor``.
        factor_every: number of steps from one look at the factor to the next. A look reads
            gradients and buffers once more, and asks the rule once.
        factor_eager: number of steps at the beginning that look in any case: in them the rule finds
            the rate.
        factor_scope: ``"group"`` for a factor a parameter group, ``"all"`` for one in all.
        restart: rule of the restart, :class:`ngs.restart.GradientRestart`; ``None`` for none. A
            restart sets the velocity to zero, the stored point to :math:`\theta_{t+1}` and the
            clocks of a momentum schedule to 0; the groups count them as ``restarts``.
        max_norm: largest norm of the whole gradient, all groups together; a longer one counts as
            scaled down to it. ``p.grad`` stays as it is. ``None`` for no clipping.
        check_finite: whether a step whose gradient is not finite is refused: nothing changes, the
            groups count it as ``refused``, and a warning names the parameters. ``None`` looks at
            every step that reads the gradients anyway (for factor, restart or clipping).
        maximize: go up instead of down.
        foreach: as for ``torch.optim.SGD``.
        fused: likewise, but ``None`` takes the fused kernel wherever it is correct.

    Raises:
        InputError: a coefficient lies outside its range, here or in a group at a later step.
        RuntimeError: a gradient is sparse, torch has no fused kernel where ``fused=True`` asks for
            it, or a step is asked for inside :meth:`at_iterate`.

    Source: Nesterov (1983); Sutskever et al. (2013), section 2; stored form: Bengio et al. (2012).

    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = NGS([weight], lr=0.1, momentum=0.9)
    >>> (0.5 * weight**2).sum().backward()
    >>> optimizer.step()
    >>> round(weight.item(), 3)  # theta_1 = 0.9, v_1 = -0.1, and y_1 = 0.9 - 0.09
    0.81
    >>> with optimizer.at_iterate():
    ...     round(weight.item(), 3)
    0.9
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        momentum: float | Schedule = 0.9,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = False,
        rescale_velocity: bool = False,
        factor: Rule | None = None,
        factor_every: int = 1,
        factor_eager: int = 100,
        factor_scope: str = "group",
        restart: GradientRestart | None = None,
        max_norm: float | None = None,
        check_finite: bool | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        self.options = Options(
            factor, factor_every, factor_eager, factor_scope, restart, max_norm, check_finite
        )
        self.report = Report()
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "rescale_velocity": rescale_velocity,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
        }
        super().__init__(params, {**settings, **states.COUNTS})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group after checking its settings (also called for every initial group)."""
        if isinstance(param_group, dict):  # torch refuses anything else, and says so
            momentum = param_group.get("momentum", self.defaults["momentum"])
            param_group["momentum_scheduled"] = callable(momentum)
            states.check({**self.defaults, **param_group})
            if self.options.factor_scope == "all" and self.param_groups:
                first = self.param_groups[0]  # a group that comes later shares the factor
                param_group.update({key: first[key] for key in states.FACTOR})
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    # Its scalars are new at every step: compiled, it would be compiled each time anew.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step with the gradients in ``p.grad``; return the closure's loss, if any."""
        if self._lookahead_points is not None:
            raise RuntimeError(
                "step() inside at_iterate(): the gradient is wanted at the look-ahead point; leave "
                "the block, or call to_lookahead(), before the backward pass"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Everything that can be refused is refused before the first parameter moves.
        for group in self.param_groups:
            states.check(group)
        entries = self._entries()
        if not self.state and self._asks_for_state(entries):
            self._make_state(entries)
            return loss
        signals = self._read(entries)
        if signals is not None and self.options.check_finite is not False:
            squares = zip(entries, signals.grad_square, strict=True)
            bad = [entry for entry, square in squares if not math.isfinite(square)]
            if bad:
                self._refuse(bad)
                return loss
        self.to_lookahead()  # does something only after a state that was saved at the iterate
        self._advance(entries, signals)
        return loss

    def _entries(self) -> list[Entry]:
        """Return the parameters that have a gradient, with the scalars of their clocks."""
        entries = []
        for number, group in enumerate(self.param_groups):
            for index, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                if p.grad.layout != torch.strided:
                    raise RuntimeError(
                        "NGS takes no sparse gradients: build the embedding with sparse=False"
                    )
                part, grad = p, p.grad
                if is_distributed(p):
                    part, grad = local(p), local_gradient(p, grad)
                if group["fused"]:
                    check_fused(part)
                state = self.state.get(p, {})
                following = states.next_momentum(group, state.get("step", 0))
                scale, momentum = state.get("scale", 0.0), state.get("momentum", 0.0)
                entries.append(Entry(p, part, grad, number, index, scale, momentum, following))
        return entries

    def _asks_for_state(self, entries: list[Entry]) -> bool:
        """Return whether this is the step by which ``torch.distributed.checkpoint`` makes a state.

        It comes before all others, and its learning rates and gradients are zero.
        """
        if any(float(group["lr"]) != 0.0 for group in self.param_groups):
            return False
        counts = [float(e.grad.count_nonzero()) for e in entries]
        add_up([e.param for e in entries], [counts])
        return bool(counts) and not any(counts)

    def _make_state(self, entries: list[Entry]) -> None:
        """Give the parameters the state of one at rest; no clock moves."""
        for e in entries:
            self._buffer(e.param)
            self.state[e.param].update(step=0, scale=0.0, momentum=0.0)
            if self.param_groups[e.group]["rescale_velocity"]:
                self.state[e.param]["lr"] = 0.0

    def _read(self, entries: list[Entry]) -> Signals | None:
        """Read the gradients, and the buffers too where they are wanted; or nothing at all."""
        options = self.options
        if options.restart is not None or self._factor_is_due():
            buffers = [self.state.get(e.param, {}).get("momentum_buffer") for e in entries]
            buffers = [b if b is None else local(b) for b in buffers]
        elif options.max_norm is not None or options.check_finite:
            buffers = [None] * len(entries)
        else:
            return None
        upwards = [self.param_groups[e.group]["maximize"] for e in entries]
        return read_signals(
            [e.param for e in entries],
            [e.grad for e in entries],
            buffers,
            [e.scale for e in entries],
            maximize=upwards,
        )

    def _factor_is_due(self) -> bool:
        options = self.options
        return options.factor is not None and any(
            group["looks"] < options.factor_eager
            or group["since_factor"] + 1 >= options.factor_every
            for group in self.param_groups
        )

    def _refuse(self, bad: list[Entry]) -> None:
        """Change nothing, but count the step as refused, and say why."""
        names = tuple(self._name(entry) for entry in bad)
        for group in self.param_groups:
            group["refused"] += 1
        self.report = Report(refused=names)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.warn(
            f"NGS refused a step ({self.refused} so far): the gradient of {shown} is not finite; "
            "nothing was changed",
            RuntimeWarning,
            stacklevel=6,  # past the hooks of torch, to the line that called step()
        )

    def _name(self, entry: Entry) -> str:
        group = self.param_groups[entry.group]
        if "param_names" in group:
            return str(group["param_names"][entry.index])
        return f"parameter {entry.index} of group {entry.group}"

    def _advance(self, entries: list[Entry], signals: Signals | None) -> None:
        """Decide on factor, clipping and restart, then move every parameter."""
        options, groups = self.options, self.param_groups
        cosines: tuple[float | None, ...] = (None,) * len(groups)
        if signals is not None and self._factor_is_due():
            found, cosines = control.next_factors(options, groups, entries, signals)
            for group, state in zip(groups, found, strict=True):
                group.update(factor=state.factor, factor_state=tuple(state), since_factor=0)
                group["looks"] += 1
        else:
            for group in groups:
                group["since_factor"] += 1
                group["factor_state"] = tuple(
                    FactorState(*group["factor_state"])._replace(damping=1.0)
                )
        rates = [_multiplier(group) * float(group["lr"]) for group in groups]
        self._rescale(entries, signals, rates)
        norm = None if signals is None else math.sqrt(sum(signals.grad_square))
        clip = control.clipping(options.max_norm, norm)
        lrs = [clip * rate for rate in rates]
        restart = False
        if signals is not None and options.restart is not None:
            memory = Memory(*groups[0]["restart_memory"])
            memory, restart = control.wants_restart(options.restart, memory, entries, signals, lrs)
            for group in groups:
                group["restart_memory"] = tuple(memory)
                group["restarts"] += restart
        if restart:  # theta_{t+1} = y_t - eta_t g_t, and no velocity
            for entry in entries:
                entry.momentum = entry.next_momentum = 0.0
        for (number, *_), bucket in self._buckets(entries).items():
            self._move(bucket, groups[number], rates[number], clip, restart)
        self.report = Report(tuple(lrs), self.factors, cosines, norm, restart)

    def _buckets(self, entries: list[Entry]) -> dict[tuple[int, float, float, float], list[Entry]]:
        """Collect the parameters of a group that share all scalars."""
        buckets: dict[tuple[int, float, float, float], list[Entry]] = {}
        for e in entries:
            buckets.setdefault((e.group, e.scale, e.momentum, e.next_momentum), []).append(e)
        return buckets

    def _rescale(self, entries: list[Entry], signals: Signals | None, rates: list[float]) -> None:
        """Let the velocities follow the learning rate, in the groups that ask for it."""
        for i, entry in enumerate(entries):
            if not self.param_groups[entry.group]["rescale_velocity"]:
                continue
            rate, last = rates[entry.group], self.state.get(entry.param, {}).get("lr", 0.0)
            if rate == 0.0 or last == 0.0:
                continue
            ratio = rate / last
            entry.scale = entry.scale / last * rate  # in this order torch's SGD to the bit
            if signals is not None:
                signals.inner[i] *= ratio
                signals.velocity_square[i] *= ratio**2

    def _move(
        self, bucket: list[Entry], group: Group, rate: float, clip: float, restart: bool
    ) -> None:
        """Step the parameters of one bucket and move their clocks."""
        if group["rescale_velocity"] and rate == 0.0:
            return
        scale, momentum = bucket[0].scale, bucket[0].momentum
        params = [e.part for e in bucket]
        buffers = [self._buffer(e.param) for e in bucket]
        distributed = [e.param for e in bucket if e.part is not e.param]
        if distributed:
            buffers = [local(b) for b in buffers]
        decay = float(group["weight_decay"])
        if group["decoupled_weight_decay"] and decay > 0.0:
            torch._foreach_mul_(params, 1.0 - decay * rate)
            decay = 0.0
        scale = exact_step(
            params,
            [e.grad for e in bucket],
            buffers,
            lr=clip * rate,
            scale=scale,
            momentum=momentum,
            next_momentum=bucket[0].next_momentum,
            weight_decay=decay / clip,  # lr is scaled down with the gradient, the decay is not
            maximize=group["maximize"],
            keep_velocity=self.options.factor is not None,
            foreach=group["foreach"],
            fused=group["fused"],
        )
        if distributed:  # autograd is to know that they have changed, not only their parts
            torch.autograd.graph.increment_version(distributed)
        for e in bucket:
            state = self.state[e.param]
            state["step"] = 0 if restart else state.get("step", 0) + 1
            state["scale"] = 0.0 if restart else scale
            state["momentum"] = e.next_momentum
            if group["rescale_velocity"]:
                state["lr"] = rate

    def _buffer(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            # Made here and not by torch's kernel, whose fused form leaves it uninitialised when a
            # step is skipped, and fails for a parameter that joins late.
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        buffer: torch.Tensor = state["momentum_buffer"]
        return buffer

    @property
    def factors(self) -> tuple[float, ...]:
        """The acceleration factor of each group, 1.0 where no rule has moved it.

        Without a rule a factor that was loaded stays as it is, and counts.
        """
        return tuple(group["factor"] for group in self.param_groups)

    @property
    def restarts(self) -> int:
        """How often the velocity was thrown away."""
        return max(int(group["restarts"]) for group in self.param_groups)

    @property
    def refused(self) -> int:
        """How many steps were refused because a gradient was not finite."""
        return max(int(group["refused"]) for group in self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Return what ``load_state_dict`` needs; ``torch.load(weights_only=True)`` reads it.

        A momentum schedule is code and not state: the dictionary says that there was one, and
        loading asks for an optimizer that has one.
        """
        schedules = [group["momentum"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                if callable(group["momentum"]):
                    group["momentum"] = float(group["momentum"](0))
            return super().state_dict()
        finally:
            for group, schedule in zip(self.param_groups, schedules, strict=True):
                group["momentum"] = schedule

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of another NGS, older ones included, or of ``torch.optim.SGD``.

        From SGD with ``nesterov=True`` the run goes on as if nothing had happened. Without it the
        parameters are heavy ball's iterate: the next step is heavy ball's too, and from there on
        the method is Nesterov's.

        Raises:
            InputError: the state comes from another optimizer, or had a momentum schedule and this
                optimizer has none.
        """
        super().load_state_dict(state_dict)  # which hands over to __setstate__, its hooks done
        for p, own in self.state.items():
            if (
                "momentum_buffer" in own
            ):  # a copy of our own, that lies in memory like its parameter
                buffer = torch.empty_like(p, memory_format=torch.preserve_format)
                own["momentum_buffer"] = buffer.copy_(own["momentum_buffer"])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "options": self.options, "report": self.report}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled optimizer, or the two parts that load_state_dict brings."""
        groups = self.__dict__.get("param_groups", [])
        states.check_loadable(state, groups)
        before = [group["momentum"] for group in groups]
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch adds it; it is no setting of NGS
        self._lookahead_points = None
        for group in self.param_groups:
            states.adopt(group, self.state, self.defaults)
            if self.options.factor_scope == "all":  # and not in the optimizer that was saved
                group.update({key: self.param_groups[0][key] for key in states.FACTOR})
        for group, momentum in zip(self.param_groups, before, strict=False):
            if callable(momentum):
                group.update(momentum=momentum, momentum_scheduled=True)


def _multiplier(group: Group) -> float:
    """Return what a group's learning rate is multiplied by in this step."""
    state = FactorState(*group["factor_state"])
    return state.factor * state.damping
