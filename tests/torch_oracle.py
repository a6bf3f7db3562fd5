"""The oracle of the tests of NGS: ngs.methods.nesterov on a quadratic, with all that NGS adds.

It is slow and obvious, in NumPy, with one clock a parameter. The optimizer must follow it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ngs.factor import FactorState, Signal
from ngs.methods import State, nesterov, start
from ngs.optim.torch import NGS
from ngs.restart import GradientRestart

KERNELS = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}


class Bowl:
    """A quadratic that couples three parameters of different shape: curvature from 0.02 to 1."""

    SHAPES = ((3,), (2, 2), (2,))

    def __init__(self, signs=(1.0, 1.0, 1.0)):
        rng = np.random.default_rng(7)
        Q, _ = np.linalg.qr(rng.normal(size=(9, 9)))
        self.A = Q @ np.diag(np.geomspace(0.02, 1.0, 9)) @ Q.T
        self.center = rng.normal(size=9)
        self.start = self.split(3.0 * rng.normal(size=9))
        self.signs = signs

    def split(self, flat):
        parts = np.split(flat, [3, 7])
        return [part.reshape(shape) for part, shape in zip(parts, self.SHAPES, strict=True)]

    def parameters(self, dtype=torch.float64):
        return [torch.nn.Parameter(torch.tensor(x, dtype=dtype)) for x in self.start]

    def loss(self, params):
        """The function as autograd sees it, for signs of 1."""
        A, center = (torch.tensor(x, dtype=params[0].dtype) for x in (self.A, self.center))
        offset = torch.cat([p.flatten() for p in params]) - center
        return 0.5 * offset @ (A @ offset)

    def grads(self, points):
        """The gradient written out; a sign of -1 turns one parameter's part around."""
        flat = np.concatenate([np.ravel(p) for p in points])
        parts = self.split(self.A @ (flat - self.center))
        return [sign * part for sign, part in zip(self.signs, parts, strict=True)]


@dataclass(frozen=True)
class Setting:
    """What NGS and the oracle are told alike; tuples have an entry for each group."""

    groups: tuple[tuple[int, ...], ...] = ((0, 1, 2),)
    schedules: tuple[Callable[[int], float], ...] | None = None
    weight_decay: tuple[float, ...] = (0.0, 0.0)
    decoupled: bool = False
    rescale: bool = False
    maximize: tuple[bool, ...] = (False, False)
    max_norm: float | None = None
    rule: object = None
    factor_every: int = 1
    factor_eager: int = 0
    factor_scope: str = "group"
    restart: tuple[float, int] | None = None

    def bowl(self):
        """The quadratic, turned around where a group goes up."""
        return Bowl(tuple(-1.0 if self.maximize[self.group(i)] else 1.0 for i in range(3)))

    def group(self, i):
        return next(number for number, members in enumerate(self.groups) if i in members)

    def optimizer(self, params, **kernel):
        groups = [
            {
                "params": [params[i] for i in members],
                "momentum": self.schedules[number] if self.schedules else 0.9,
                "weight_decay": self.weight_decay[number],
                "maximize": self.maximize[number],
            }
            for number, members in enumerate(self.groups)
        ]
        return NGS(
            groups,
            decoupled_weight_decay=self.decoupled,
            rescale_velocity=self.rescale,
            factor=self.rule,
            factor_every=self.factor_every,
            factor_eager=self.factor_eager,
            factor_scope=self.factor_scope,
            restart=self.restart and GradientRestart(*self.restart),
            max_norm=self.max_norm,
            **kernel,
        )


@dataclass(frozen=True)
class Steer:
    """A rule that looks at every number it is handed, and remembers."""

    gain: float = 0.2

    def follow(self, state, signal):
        cosine = signal.inner / math.sqrt(signal.grad_square * signal.direction_square + 1e-12)
        length = math.log1p(signal.grad_square) - 0.5 * math.log1p(signal.direction_square)
        push = math.tanh(cosine + 0.02 * length + 0.1 * signal.lr - 0.01 * state.crossings)
        return state._replace(
            factor=min(max(state.factor * math.exp(self.gain * push), 0.2), 2.0),
            damping=0.5 + 0.5 / (1.0 + signal.grad_square),
            crossings=state.crossings + (cosine > 0.0),
        )


class Oracle:
    """The look-ahead method itself, a state and a clock for each parameter."""

    def __init__(self, bowl, setting=None):
        self.bowl, self.setting = bowl, setting or Setting()
        self.states = [start(x.copy()) for x in bowl.start]
        self.momenta = [0.0] * 3  # beta_t; it multiplies a velocity of zero at first
        self.clocks = [0] * 3
        self.last_rates = [0.0] * 3
        self.factors = [FactorState() for _ in self.setting.groups]
        self.looks = self.looks_missed = 0
        self.average, self.waited, self.restarts = 0.0, 0, 0

    def points(self):
        pairs = zip(self.states, self.momenta, strict=True)
        return [nesterov.gradient_point(state, beta) for state, beta in pairs]

    def step(self, lrs, next_momenta, present=(True, True, True)):
        """Step with each group's learning rate and next momentum; return rates and norm."""
        setting, points = self.setting, self.points()
        moving = [i for i in range(3) if present[i]]
        upwards = [-1.0 if setting.maximize[setting.group(i)] else 1.0 for i in range(3)]
        grads = [sign * g for sign, g in zip(upwards, self.bowl.grads(points), strict=True)]
        norm = math.sqrt(sum(square(grads[i]) for i in moving))
        clip = 1.0
        if setting.max_norm is not None and norm > setting.max_norm:
            clip = setting.max_norm / norm
        rates = self._rates(lrs, grads, moving)
        if setting.rescale:
            self._rescale(rates, points, moving)
        restarts = setting.restart and self._wants_restart(rates, clip, grads, moving)
        for i in moving:
            group = setting.group(i)
            if setting.rescale and rates[group] == 0.0:
                continue
            self._move(i, clip * grads[i], points[i], rates[group], setting.weight_decay[group])
            self.clocks[i] += 1
            schedule = setting.schedules and setting.schedules[group]
            self.momenta[i] = schedule(self.clocks[i]) if schedule else next_momenta[group]
            if restarts:
                self.states[i] = start(self.states[i].theta)
                self.momenta[i], self.clocks[i] = 0.0, 0
        self.restarts += bool(restarts)
        return [clip * rate for rate in rates], norm

    def _move(self, i, grad, point, rate, decay):
        if self.setting.decoupled:
            new = nesterov.step(self.states[i], grad, rate, self.momenta[i])
            self.states[i] = new._replace(theta=new.theta - rate * decay * point)
        else:
            grad = grad + decay * point
            self.states[i] = nesterov.step(self.states[i], grad, rate, self.momenta[i])

    def _rescale(self, rates, points, moving):
        """Make each velocity longer or shorter with the rate, and leave the stored point."""
        for i in moving:
            rate, beta = rates[self.setting.group(i)], self.momenta[i]
            if rate == 0.0:
                continue
            if self.last_rates[i] > 0.0:
                velocity = rate / self.last_rates[i] * self.states[i].velocity
                self.states[i] = State(points[i] - beta * velocity, velocity)
            self.last_rates[i] = rate

    def _rates(self, lrs, grads, moving):
        setting = self.setting
        if setting.rule is None:
            return list(lrs)
        self.looks_missed += 1
        look = self.looks < setting.factor_eager or self.looks_missed == setting.factor_every
        self.looks += look
        for number in range(len(setting.groups)):
            if not look:
                self.factors[number] = self.factors[number]._replace(damping=1.0)
                continue
            together = setting.factor_scope == "all"
            own = [i for i in moving if together or setting.group(i) == number]
            signal = Signal(
                sum(float(np.vdot(grads[i], -self.states[i].velocity)) for i in own),
                sum(square(grads[i]) for i in own),
                sum(square(self.states[i].velocity) for i in own),
                max(lrs) if together else lrs[number],
            )
            self.factors[number] = setting.rule.follow(self.factors[number], signal)
        self.looks_missed = 0 if look else self.looks_missed
        pairs = zip(lrs, self.factors, strict=False)
        return [lr * state.factor * state.damping for lr, state in pairs]

    def _wants_restart(self, rates, clip, grads, moving):
        average, wait = self.setting.restart
        after = {
            i: self.momenta[i] * self.states[i].velocity
            - clip * rates[self.setting.group(i)] * grads[i]
            for i in moving
        }
        norms = math.sqrt(
            sum(square(grads[i]) for i in moving) * sum(square(after[i]) for i in moving)
        )
        inner = sum(float(np.vdot(grads[i], after[i])) for i in moving)
        self.average = average * self.average + (1 - average) * (inner / norms if norms else 0.0)
        self.waited += 1
        if self.average > 0.0 and self.waited >= wait:
            self.average, self.waited = 0.0, 0
            return True
        return False


def square(x):
    return float(np.vdot(x, x))


def set_grads(bowl, params, present=(True, True, True)):
    """Write the gradients at the parameters, without autograd: it would cost most of the time."""
    grads = bowl.grads([p.detach().double().numpy() for p in params])
    for p, grad, has_gradient in zip(params, grads, present, strict=True):
        p.grad = torch.from_numpy(grad).to(p.dtype) if has_gradient else None


def distance(params, points):
    """Largest difference, relative to the largest coordinate."""
    a = np.concatenate([p.detach().double().numpy().ravel() for p in params])
    b = np.concatenate([np.ravel(x) for x in points])
    return float(np.abs(a - b).max() / np.abs(b).max())


def deviation(rows, setting=None, presence=None, dtype=torch.float64, **kernel):
    """Step NGS and the oracle through ``rows`` of (lrs, momenta); return the worst distance."""
    setting = setting or Setting()
    bowl = setting.bowl()
    params, oracle = bowl.parameters(dtype), Oracle(bowl, setting)
    optimizer = setting.optimizer(params, **kernel)
    worst = 0.0
    for t, (lrs, momenta) in enumerate(rows):
        present = presence[t] if presence is not None else (True, True, True)
        for group, lr, momentum in zip(optimizer.param_groups, lrs, momenta, strict=False):
            group["lr"] = float(lr)
            if setting.schedules is None:
                group["momentum"] = float(momentum)
        set_grads(bowl, params, present)
        before = [
            (p.detach().clone(), p.grad if p.grad is None else p.grad.clone()) for p in params
        ]
        optimizer.step()
        rates, norm = oracle.step(lrs, momenta, present)
        for p, (old, grad) in zip(params, before, strict=True):
            if grad is None:
                assert torch.equal(p, old), "a parameter without gradient moved"
            else:
                assert torch.equal(p.grad, grad), "a gradient was changed"
        if dtype == torch.float64:
            assert_report(optimizer, oracle, rates, norm)
        worst = max(worst, distance(params, oracle.points()))
    assert all(p.isfinite().all() for p in params)
    return worst


def assert_report(optimizer, oracle, rates, norm):
    """What NGS says of its step is what the oracle did."""
    report = optimizer.report
    assert near(report.lr, rates[: len(report.lr)]), (report.lr, rates)
    assert near(optimizer.factors, [state.factor for state in oracle.factors])
    assert report.factor == optimizer.factors
    assert optimizer.restarts == oracle.restarts
    if oracle.setting.restart:
        for group in optimizer.param_groups:
            assert near(group["restart_memory"], (oracle.average, oracle.waited))
    if report.grad_norm is not None:
        assert near([report.grad_norm], [norm]), (report.grad_norm, norm)


def near(ours, theirs):
    pairs = zip(ours, theirs, strict=True)
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in pairs)
