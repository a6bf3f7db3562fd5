"""Claims about the golden trajectories: every framework follows them to 1e-10."""

import json

import numpy as np
import pytest
from tool import load_tool

runs = load_tool("golden_runs")
golden = runs.golden


def test_the_file_is_what_the_methods_compute() -> None:
    stored = json.loads(golden.GOLDEN.read_text(encoding="utf-8"))
    made = golden.trajectories()
    for problem, schedule, option in runs.cases():
        pairs = zip(made[problem][schedule][option], stored[problem][schedule][option], strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(golden.join(one), golden.join(other), rtol=1e-11, atol=1e-11)


def test_the_options_do_something() -> None:
    for problem, schedules in golden.trajectories().items():
        plain = {name: options["plain"] for name, options in schedules.items()}
        for option in golden.OPTIONS:
            if option != "plain":
                changed = [s for s in schedules if schedules[s][option] != plain[s]]
                assert changed, (problem, option)


@pytest.mark.parametrize("name", runs.FRAMEWORKS)
def test_a_framework_follows_to_1e_10(name: str) -> None:
    if not runs.is_installed(name):
        pytest.skip(f"what {name} runs on is not installed")
    found = runs.deviations_of(name)
    assert len(found) == 180
    assert {case: deviation for case, deviation in found.items() if not deviation < 1e-10} == {}
