"""Claims about the golden trajectories: every framework follows them to 1e-10."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import golden_runs
import numpy as np
import pytest

TESTS = Path(__file__).parent
FRAMEWORKS = {
    "optax": ("optax", {"JAX_ENABLE_X64": "1"}),
    "keras on torch": ("keras", {"KERAS_BACKEND": "torch"}),
    "keras on jax": ("keras", {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}),
    "keras on tensorflow": ("keras", {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}),
}


def check(found: dict[str, float]) -> None:
    assert len(found) == 135
    assert {case: deviation for case, deviation in found.items() if not deviation < 1e-10} == {}


def test_the_file_is_what_the_methods_compute() -> None:
    stored = json.loads(golden_runs.golden.GOLDEN.read_text(encoding="utf-8"))
    made = golden_runs.golden.trajectories()
    for problem, schedule, option in golden_runs.cases():
        pairs = zip(made[problem][schedule][option], stored[problem][schedule][option], strict=True)
        for one, other in pairs:
            join = golden_runs.golden.join
            np.testing.assert_allclose(join(one), join(other), rtol=1e-11, atol=1e-11)


def test_the_options_do_something() -> None:
    made = golden_runs.golden.trajectories()
    for problem, schedules in made.items():
        plain = {name: options["plain"] for name, options in schedules.items()}
        for option in golden_runs.golden.OPTIONS:
            if option != "plain":
                changed = [s for s in schedules if schedules[s][option] != plain[s]]
                assert changed, (problem, option)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_framework_follows_to_1e_10(framework: str) -> None:
    check(golden_runs.deviations(framework))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_in_a_process_of_its_own_follows_to_1e_10(name: str) -> None:
    framework, environment = FRAMEWORKS[name]
    backend = environment.get("KERAS_BACKEND", "jax")
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "golden_runs.py", framework],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    check(json.loads(done.stdout.splitlines()[-1]))
