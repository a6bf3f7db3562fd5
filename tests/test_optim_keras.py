"""The claims of keras_cases.py hold on every backend of Keras that is installed."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_the_claims_hold_on_a_backend(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "keras_cases.py"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode != 0:
        pytest.fail(f"on {backend}:\n{done.stdout[-6000:]}", pytrace=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 23
