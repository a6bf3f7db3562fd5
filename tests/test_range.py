"""Claims about the learning-rate range test: its rates, its end, its two readings, its refusals."""

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ngs import cli
from ngs.errors import InputError
from ngs.train import data, loop, offline, range_test
from ngs.train.config import TrainConfig
from ngs.train.run import Run

SMALL = {
    "model": "small",
    "side": 8,
    "batch_size": 25,
    "device": "cpu",
    "precision": "float32",
    "momentum": 0.5,
}


@pytest.fixture(scope="module")
def few() -> data.Dataset:
    images, labels = offline.generate(120, seed=3)
    parts = (images[:100], labels[:100], images[100:], labels[100:])
    return data._dataset("offline", offline.CLASSES, *parts, source="a few")


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


def test_the_rate_of_every_step_is_the_one_before_times_the_same_number(
    few: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    step = Run.optimize

    def spy(self: Run) -> None:
        taken.append(self.optimizer.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(Run, "optimize", spy)
    record = range_test.range_test(config(), 1e-4, 1e-1, steps=31, data=few)
    expected = [1e-4 * 10 ** (t / 10) for t in range(31)]
    assert taken == pytest.approx(expected)
    assert record["lr"] == pytest.approx(expected, rel=1e-4)
    assert len(record["loss"]) == len(record["smoothed"]) == 31
    assert record["loss"][0] == pytest.approx(math.log(10), abs=0.5)
    assert (record["low"], record["high"], record["steps"]) == (1e-4, 1e-1, 31)


def test_it_ends_where_the_loss_is_lost(few: data.Dataset) -> None:
    record = range_test.range_test(
        config(batch_norm=False, momentum=0.9), 1e-3, 1e6, steps=200, data=few
    )
    assert 10 < len(record["loss"]) < 200
    assert all(math.isfinite(loss) for loss in record["loss"])
    assert record["begins"] <= record["lowest"] < record["lr"][-1]


def test_no_image_held_out_and_no_test_image_is_read(
    few: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = Run.train_step

    def spy(self: Run, images: torch.Tensor, labels: torch.Tensor) -> Any:
        seen.append(images.flatten(1))
        return step(self, images, labels)

    monkeypatch.setattr(Run, "train_step", spy)
    held = config(validation=40, augment=False, batch_size=30)
    range_test.range_test(held, steps=10, data=few)
    shown = torch.cat(seen)
    kept = few.hold_out(40).reduced(0, 8).train.images
    assert len(torch.unique(shown, dim=0)) <= len(kept) == 60


def test_the_mean_is_that_of_a_slow_count() -> None:
    losses = [3.0, 1.0, 2.0]
    expected = [3.0, (0.9 * 3.0 + 1.0) / 1.9, (0.81 * 3.0 + 0.9 * 1.0 + 2.0) / 2.71]
    assert range_test.smoothed(losses) == pytest.approx(expected)


def test_the_two_readings() -> None:
    means = [2.3, 2.3, 2.25, 2.19, 1.9, 1.5, 1.3, 1.4, 2.0]
    assert range_test.lowest(means) == 6
    assert range_test.begins(means) == 3  # 2.3 - 0.1 * (2.3 - 1.3) = 2.2
    assert range_test.begins([1.0, 2.0]) == range_test.lowest([1.0, 2.0]) == 0


@pytest.mark.parametrize(
    ("bounds", "line"),
    [
        ((0.0, 1.0, 20), "low and high must be above 0, low the smaller, got 0.0 and 1.0"),
        ((1.0, 1.0, 20), "low the smaller, got 1.0 and 1.0"),
        ((1.0, math.inf, 20), "low the smaller, got 1.0 and inf"),
        ((0.1, 1.0, 9), "steps must be 10 or more, got 9"),
    ],
)
def test_bounds_that_cannot_be_are_refused(
    bounds: tuple[float, float, int], line: str, few: data.Dataset
) -> None:
    with pytest.raises(InputError, match=line):
        range_test.range_test(config(), *bounds, data=few)


@pytest.mark.parametrize("optimizer", ["ngs-factor", "hypergradient", "prodigy"])
def test_an_optimizer_that_learns_its_rate_is_refused(optimizer: str, few: data.Dataset) -> None:
    with pytest.raises(InputError, match=f"sets the learning rate, which {optimizer} learns"):
        range_test.range_test(config(optimizer=optimizer), data=few)


def test_what_belongs_to_a_whole_run_does_not_matter(few: data.Dataset) -> None:
    plain = range_test.range_test(config(side=16), 1e-4, 1e-2, steps=60, data=few)
    whole = {"average": 0.9, "lookahead": 2, "low_share": 0.5, "low_side": 8, "epochs": 1}
    found = range_test.range_test(
        config(side=16, schedule="onecycle", **whole), 1e-4, 1e-2, steps=60, data=few
    )
    assert found["loss"] == plain["loss"]


def test_a_loss_that_is_lost_at_once_is_said_so(few: data.Dataset) -> None:
    with pytest.raises(InputError, match="give a smaller low, it was 1e\\+30"):
        range_test.range_test(config(batch_norm=False), 1e30, 1e38, data=few)


def test_the_command_prints_the_two_readings_and_keeps_a_record(
    tmp_path: Path,
    few: data.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "load", lambda name, download=True: few)
    out = tmp_path / "range.jsonl"
    typed = ["range", "--model", "small", "--side", "8", "--batch-size", "25", "--steps", "40"]
    typed += ["--low", "0.001", "--high", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["ngs", *typed])
    with pytest.raises(SystemExit) as ended:
        cli.main(typed)
    assert not ended.value.code
    record = json.loads(out.read_text())
    assert record["kind"] == "range-test"
    assert record["command"] == shlex.join(["ngs", *typed])
    printed = capsys.readouterr().out
    assert f"lowest at {record['lowest']:g}" in printed
    assert f"to fall at lr {record['begins']:g}" in printed
