"""Write the golden trajectories of the Momentum Lab, ``tests/lab_golden.json``.

Everything in it comes out of :mod:`ngs`; the browser's arithmetic (``book/_static/lab``) is tested
against it. It rests on NumPy and :mod:`ngs`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ngs import methods, theory
from ngs.factor import AngleRule, FactorState, Signal
from ngs.minimize import minimize
from ngs.problems import Problem, lessard_counterexample, quadratic, rosenbrock
from ngs.schedules import NesterovMomentum, nesterov_lambda

GOLDEN = Path(__file__).resolve().parents[1] / "tests/lab_golden.json"
EVERY = 4
"""A trajectory keeps its first step and every fourth after it."""

Case = dict[str, Any]


def normal(seed: int) -> Callable[[], float]:
    """Return the Lab's source of normal numbers: mulberry32 and the formula of Box and Muller."""
    state = seed

    def uniform() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((state ^ (state >> 15)) * (state | 1)) & 0xFFFFFFFF
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        return (t ^ (t >> 14)) / 2**32

    def draw() -> float:
        radius = math.sqrt(-2.0 * math.log(1.0 - uniform()))
        return radius * math.cos(2.0 * math.pi * uniform())

    return draw


def problem_of(case: Case) -> Problem:
    """Return the function of a case, with noise in its gradient where the case has some."""
    made = {
        "quadratic": lambda: quadratic([1.0, case["kappa"]]),
        "rosenbrock": rosenbrock,
        "lessard": lessard_counterexample,
    }
    f = made[case["f"]]()
    if not case["noise"]:
        return f
    draw, exact = normal(case["seed"]), f.grad
    return replace(
        f,
        grad=lambda theta: exact(theta) + case["noise"] * np.array([draw() for _ in theta]),
    )


def inner_product(a: Any, b: Any) -> float:
    """Return the sum of products, each rounded: a processor's own product rounds fewer times."""
    return float(np.sum(a * b))


def learned(f: Problem, case: Case) -> tuple[list[Any], list[float], list[float], list[int]]:
    """Run Nesterov's method with the acceleration factor, as :class:`ngs.optim.torch.NGS` does.

    It knows one kind of restart, by the gradient.
    """
    momentum = NesterovMomentum() if case["momentum"] == "nesterov" else None
    rule, factor = AngleRule(), FactorState()
    state, clock = methods.start(np.array(case["theta"])), 0
    iterates, rates, restarts = [state.theta], [], []
    values = [f.value(state.theta)]
    for t in range(case["steps"]):
        beta = case["momentum"] if momentum is None else momentum(clock)
        grad = f.grad(methods.lookahead(state, beta))
        inner = -inner_product(grad, state.velocity)
        squares = (inner_product(grad, grad), inner_product(state.velocity, state.velocity))
        factor = rule.follow(factor, Signal(inner, *squares, lr=case["lr"]))
        rates.append(case["lr"] * factor.factor * factor.damping)
        state = methods.momentum_step(state, grad, rates[-1], beta)
        iterates.append(state.theta)
        values.append(f.value(state.theta))
        clock += 1
        uphill = inner_product(grad, iterates[-1] - iterates[-2]) > 0.0
        if case["restart"] != "none" and uphill:
            state, clock = methods.start(state.theta), 0
            restarts.append(t)
    return iterates, values, rates, restarts


def trajectory(case: Case, every: int = EVERY) -> Case:
    """Return a case with what ngs makes of it: its first step, and every so many after it."""
    f = problem_of(case)
    if case["method"] == "ngs":
        iterates, values, rates, restarts = learned(f, case)
    else:
        method = methods.METHODS[case["method"]]
        momentum = NesterovMomentum() if case["momentum"] == "nesterov" else case["momentum"]
        scheme = case["restart"] if method.coefficients else "none"
        run = minimize(
            method,
            f,
            case["theta"],
            lr=case["lr"],
            momentum=momentum if method.coefficients else 0.0,
            steps=case["steps"],
            restart=None if scheme == "none" else scheme,
        )
        iterates, values, restarts = list(run.iterates), list(run.values), list(run.restarts)
        rates = [case["lr"]] * (len(values) - 1)
    return {
        **case,
        "iterates": [list(map(float, x)) for x in iterates[::every]],
        "values": list(map(float, values[::every])),
        "rates": rates[::every],
        "restarts": restarts,
    }


def cases() -> list[Case]:
    """Return what is run: every function, method and kind of restart; schedule and noise too."""
    common = {"kappa": 100.0, "steps": 80, "restart": "none", "noise": 0.0, "seed": 1}
    valley = {**common, "f": "quadratic", "theta": [-1.8, 0.7], "lr": 0.009, "momentum": 0.85}
    banana = {**common, "f": "rosenbrock", "theta": [-1.2, 1.0], "lr": 0.0008, "momentum": 0.9}
    kinks = {**common, "f": "lessard", "theta": [3.3], "lr": 1 / 9, "momentum": 4 / 9}
    wide = {"kappa": 10.0, "lr": 0.07, "momentum": 0.6}
    found = []
    for name in ("gradient_descent", "heavy_ball", "nesterov", "ngs"):
        for base in (
            *(valley, {**valley, **wide}, banana, {**kinks, "lr": 0.03}),
            *({**valley, "restart": kind} for kind in ("function", "gradient")),
            *({**banana, "restart": kind} for kind in ("function", "gradient")),
            {**valley, "noise": 0.3, "seed": 7},
            {**valley, "noise": 0.3, "seed": 8, "restart": "gradient"},
        ):
            found.append({"method": name, **base})
    for name in ("nesterov", "ngs"):
        for base in (valley, banana, {**valley, "restart": "gradient"}):
            found.append({"method": name, **base, "momentum": "nesterov"})
    for case in found:
        if case["method"] == "ngs":
            # Where the factor overshoots, a rounding error grows from step to step: after a hundred
            # steps two correct programs, whose exponential functions differ in the last bit, may
            # differ in every digit.
            case["steps"] = 24
    # The circle of heavy ball; and a rate three hundred times too small, which NGS mends.
    found.append({"method": "heavy_ball", **kinks})
    found.append({"method": "ngs", **valley, "lr": 3e-5, "steps": 32})
    return found


def main() -> None:
    """Write the file."""
    grid = [
        {"method": name, "eigenvalue": c, "lr": lr, "momentum": beta}
        for name in ("gradient_descent", "heavy_ball", "nesterov")
        for c in (1.0, 25.0, 100.0)
        for lr in (0.0021, 0.0133, 0.0271)
        for beta in (0.07, 0.41, 0.83, 0.97)
    ]
    for row in grid:
        method = methods.METHODS[row["method"]]
        beta = row["momentum"] if method.coefficients else ()
        row["radius"] = theory.spectral_radius(method, row["eigenvalue"], row["lr"], beta)
    steps = (1, 2, 5, 10, 50, 200)
    golden = {
        "trajectories": [trajectory(case) for case in cases()],
        "radius": grid,
        "lambda": [[k, nesterov_lambda(k)] for k in steps],
        "nesterov_momentum": [[t, NesterovMomentum()(t)] for t in (0, *steps)],
        "bounds": [
            {
                "k": k,
                "gradient_descent": theory.gradient_descent_bound(k, 25.0, 2.0),
                "nesterov": theory.nesterov_bound(k, 25.0, 2.0),
                "strongly_convex": theory.strongly_convex_bound(k, 25.0, 1.0, 2.0),
            }
            for k in steps
        ],
        "heavy_ball_optimum": [[k, *theory.heavy_ball_optimum(k, 1.0)] for k in (4.0, 25.0, 100.0)],
        "normal": [(draw := normal(seed), [draw() for _ in range(50)])[1] for seed in (1, 2**31)],
    }
    lines = (f"{json.dumps(name)}: {_block(rows)}" for name, rows in golden.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"wrote {GOLDEN.name}: {len(golden['trajectories'])} trajectories")


def _block(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


if __name__ == "__main__":
    main()
