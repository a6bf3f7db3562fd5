"""Run the golden problems in every framework, and say how far each is from the golden file.

``python tools/golden_runs.py follow optax`` prints the deviations of one framework. Keras takes its
backend from KERAS_BACKEND, and JAX needs JAX_ENABLE_X64=1, so each runs in a process of its own;
``... agree --out FILE`` starts them all. Chapter 11 reads the record.
"""

import functools
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import click
import make_golden as golden
import numpy as np

Case = tuple[str, str, str]


def cases() -> Iterator[Case]:
    """Yield problem, schedule and options of every trajectory."""
    for problem in golden.PROBLEMS:
        for schedule in golden.SCHEDULES:
            for option in golden.OPTIONS:
                yield problem, schedule, option


def numpy_points(case: Case) -> list[np.ndarray]:
    """Run the traced step on NumPy's arrays."""
    from ngs.optim.traced import Memory, Products, Settings, advance, decide

    problem, (rate, momentum), options = parts_of(case)
    settings, memory = Settings(**options), Memory()
    stored = [np.asarray(part, dtype=float) for part in problem.start]
    velocity, points = [np.zeros_like(part) for part in stored], []
    for t in range(golden.STEPS):
        grads = problem.gradient(stored, np)
        g, v = golden.join(grads), golden.join(velocity)
        products = Products(g @ v, g @ g, v @ v) if settings.reads else None
        following = momentum(int(memory.clock) + 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # of what is not chosen
            memory, scalars = decide(
                settings, memory, products, np.float64(problem.lr * rate(t)), following, np
            )
        columns = zip(stored, grads, velocity, strict=True)
        both = [advance(settings, scalars, *leaf, np) for leaf in columns]
        stored = [part + moved for part, (moved, _) in zip(stored, both, strict=True)]
        velocity = [after for _, after in both]
        points.append(golden.join(stored))
    return points


def torch_points(case: Case) -> list[np.ndarray]:
    """Run the optimizer of torch."""
    import torch

    from ngs.optim.torch import NGS

    problem, (rate, momentum), options = parts_of(case)
    weights = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in problem.start]
    optimizer, points = NGS(weights, lr=problem.lr, momentum=momentum, **options), []
    for t in range(golden.STEPS):
        optimizer.param_groups[0]["lr"] = problem.lr * rate(t)
        grads = problem.gradient([weight.detach().numpy() for weight in weights], np)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = torch.tensor(np.asarray(grad))
        optimizer.step()
        points.append(golden.join([weight.detach().numpy() for weight in weights]))
    return points


@functools.cache
def optax_loop(name: str, option: str) -> Any:
    """Return a compiled run of a problem, from tables of learning rates and coefficients."""
    import jax
    import jax.numpy as jnp
    import optax

    from ngs.optim.optax import ngs

    problem, options = golden.PROBLEMS[name], golden.OPTIONS[option]

    def run(rates: Any, coefficients: Any) -> Any:
        method = ngs(lambda t: rates[t], lambda t: coefficients[t], **options)

        def step(carry: Any, _: None) -> tuple[Any, Any]:
            params, state = carry
            updates, state = method.update(problem.gradient(params, jnp), state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), jnp.concatenate([jnp.ravel(part) for part in params])

        params = [jnp.asarray(part, float) for part in problem.start]
        return jax.lax.scan(step, (params, method.init(params)), length=golden.STEPS)[1]

    return jax.jit(run)


def optax_points(case: Case) -> list[np.ndarray]:
    """Run the transformation of optax, the whole loop compiled."""
    problem, (rate, momentum), _ = parts_of(case)
    rates = np.array([problem.lr * rate(t) for t in range(golden.STEPS)])
    coefficients = np.array([momentum(t) for t in range(golden.STEPS + 1)])
    return list(np.asarray(optax_loop(case[0], case[2])(rates, coefficients)))


def keras_points(case: Case) -> list[np.ndarray]:
    """Run the optimizer of Keras."""
    import keras

    from ngs.optim.keras import NGS, Tabulated

    keras.config.set_floatx("float64")
    problem, (rate, momentum), options = parts_of(case)
    options = {"decoupled_weight_decay": False, **options}
    rates = Tabulated([problem.lr * rate(t) for t in range(golden.STEPS)])
    optimizer, points = NGS(rates, Tabulated.of(momentum, golden.STEPS), **options), []
    weights = [keras.Variable(np.asarray(part, dtype=float)) for part in problem.start]
    for _ in range(golden.STEPS):
        numbers = [keras.ops.convert_to_numpy(weight) for weight in weights]
        grads = [keras.ops.convert_to_tensor(np.asarray(g)) for g in problem.gradient(numbers, np)]
        optimizer.apply(grads, weights)
        points.append(golden.join([keras.ops.convert_to_numpy(weight) for weight in weights]))
    return points


RUNS: dict[str, Callable[[Case], list[np.ndarray]]] = {
    "numpy": numpy_points,
    "torch": torch_points,
    "optax": optax_points,
    "keras": keras_points,
}


def parts_of(case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return problem, schedules and options of a case."""
    problem, schedule, option = case
    return golden.PROBLEMS[problem], golden.SCHEDULES[schedule], golden.OPTIONS[option]


def deviations(framework: str) -> dict[str, float]:
    """Return the largest relative deviation from the file, by case."""
    stored = json.loads(golden.GOLDEN.read_text(encoding="utf-8"))
    found = {}
    for case in cases():
        problem, schedule, option = case
        points = RUNS[framework](case)
        expected = [golden.join(point) for point in stored[problem][schedule][option]]
        found[", ".join(case)] = max(
            float(np.abs(points[t - 1] - point).max() / max(1.0, np.abs(point).max()))
            for t, point in zip(golden.KEPT, expected, strict=True)
        )
    return found


FRAMEWORKS: dict[str, tuple[str, dict[str, str]]] = {
    "NumPy": ("numpy", {}),
    "torch": ("torch", {}),
    "optax": ("optax", {"JAX_ENABLE_X64": "1"}),
    "Keras on torch": ("keras", {"KERAS_BACKEND": "torch"}),
    "Keras on JAX": ("keras", {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}),
    "Keras on TensorFlow": ("keras", {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}),
}
"""What is run, in which environment."""


def is_installed(name: str) -> bool:
    """Return whether what a framework runs on is there."""
    framework, environment = FRAMEWORKS[name]
    needs = {"optax": "jax"}.get(framework, environment.get("KERAS_BACKEND", framework))
    return importlib.util.find_spec(needs) is not None


def deviations_of(name: str) -> dict[str, float]:
    """Return the deviations of a framework, which is run in a process of its own."""
    framework, environment = FRAMEWORKS[name]
    done = subprocess.run(  # noqa: S603 (this file)
        [sys.executable, __file__, "follow", framework],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@click.group()
def main() -> None:
    """Compare frameworks with the golden file."""


@main.command()
@click.argument("framework", type=click.Choice(list(RUNS)))
def follow(framework: str) -> None:
    """Print the deviations of one framework, as JSON."""
    click.echo(json.dumps(deviations(framework)))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def agree(out: Path) -> None:
    """Run every framework that is installed, and write a record."""
    import torch

    from ngs.train.records import append_record, provenance

    rows = []
    for name in FRAMEWORKS:
        if not is_installed(name):
            click.echo(f"{name:<20} is not installed")
            continue
        found = deviations_of(name)
        worst = max(found, key=lambda case: found[case])
        rows.append({"name": name, "cases": len(found), "worst": found[worst], "where": worst})
        click.echo(f"{name:<20} {len(found)} runs, at most {found[worst]:.1e} apart ({worst})")
    record = {
        "command": shlex.join(["python", "tools/golden_runs.py", *sys.argv[1:]]),
        "kind": "golden",
        **provenance(torch.device("cpu")),
    }
    packages = packages_distributions()
    others = [name for name in ("jax", "optax", "keras", "tensorflow") if name in packages]
    record["versions"] |= {name: version(packages[name][0]) for name in others}
    append_record(out, {**record, "rows": rows})


if __name__ == "__main__":
    main()
