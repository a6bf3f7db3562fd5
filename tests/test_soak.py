"""What is too long for every day: the default command in full, and CIFAR-10 where it is at hand.

`make soak` runs this file; `make test` leaves it out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

COMMAND = [sys.executable, "-c", "from ngs.cli import main; main()", "train"]


def train(out, *options):
    done = subprocess.run(
        [*COMMAND, "--out", str(out), *options], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads((out / "records.jsonl").read_text(encoding="utf-8"))


def test_the_default_command_learns_the_offline_data_set(tmp_path):
    record = train(tmp_path)
    assert record["config"]["dataset"] == "offline"
    assert record["test"]["accuracy"] > 0.75


@pytest.mark.skipif(
    not (Path(os.environ.get("NGS_DATA", "nowhere")) / "cifar-10-batches-py").is_dir(),
    reason="NGS_DATA names no folder with CIFAR-10",
)
def test_two_epochs_of_the_narrow_network_learn_real_cifar10(tmp_path):
    record = train(tmp_path, "--dataset", "cifar10", "--epochs", "2")
    assert record["images"] == {"train": 50_000, "validation": 0, "test": 10_000}
    assert record["test"]["accuracy"] > 0.5
