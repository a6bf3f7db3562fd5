"""Claims about ``ngs bench train``: the parts are those of real steps and add up to them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ngs import cli
from ngs.errors import InputError
from ngs.records import read_records
from ngs.train import loop, throughput
from ngs.train.config import TrainConfig
from ngs.train.data import load
from ngs.train.throughput import bench_train

CONFIG = TrainConfig(model="small", side=8, batch_size=16, device="cpu", precision="float32")


def slow(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seconds: float) -> None:
    """Let a function take so many seconds longer."""
    work = getattr(owner, name)

    def slower(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return work(*args, **kwargs)

    monkeypatch.setattr(owner, name, slower)


def test_shares_add_up_to_one_and_images_per_second_are_those_of_the_step() -> None:
    record = bench_train(CONFIG, 4)
    assert set(record["share"]) == {"data", "forward", "backward", "optimizer"}
    assert sum(record["share"].values()) == pytest.approx(1.0, abs=1e-3)
    assert all(share > 0.0 for share in record["share"].values())
    images = 5000 / 313  # a step, of 5,000 in batches of 16 at most
    assert record["images_per_second"] == pytest.approx(1e3 * images / record["step_ms"], rel=1e-3)


@pytest.mark.parametrize(
    ("part", "owner", "name"),
    [
        ("data", throughput, "next"),
        ("forward", loop.Run, "scores"),
        ("backward", torch.Tensor, "backward"),
        ("optimizer", torch.amp.GradScaler, "step"),
    ],
)
def test_time_counts_towards_the_part_that_takes_it(
    part: str, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "next":
        monkeypatch.setattr(throughput, "next", next, raising=False)
    slow(monkeypatch, owner, name, 0.2)
    record = bench_train(CONFIG, 3)
    assert record["share"][part] > 0.8
    assert record["step_ms"] > 200.0


def test_parts_of_a_batch_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, loop.Run, "scores", 0.05)
    config = TrainConfig(**{**vars(CONFIG), "accumulate": 4})
    assert bench_train(config, 2)["step_ms"] > 200.0


def test_no_test_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*args: Any) -> None:
        raise AssertionError("something was measured")

    monkeypatch.setattr(loop.Run, "_measure", measured)
    bench_train(CONFIG, 1, data=load("offline"))


def test_more_steps_than_a_pass_has_are_no_trouble() -> None:
    data = load("offline").reduced(20, 8)
    config = TrainConfig(**{**vars(CONFIG), "side": 8, "batch_size": 16})
    small = type(data)(**{**vars(data), "train": data.train})
    assert bench_train(config, 7, data=small)["steps"] == 7


def test_the_command_prints_the_shares_and_records_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["bench", "train", "--model", "small", "--side", "8", "--batch-size", "16",
             "--device", "cpu", "--steps", "2"]  # fmt: skip
    for more in ([], ["--out", str(tmp_path / "new" / "b.jsonl")]):
        with pytest.raises(SystemExit) as ended:
            cli.main([*typed, *more])
        assert ended.value.code == 0
        out = capsys.readouterr().out
        for word in ("images/s", "ms a step", "data", "forward", "backward", "optimizer", "70,618"):
            assert word in out
    (record,) = read_records(tmp_path / "new" / "b.jsonl")
    assert record["kind"] == "bench-train"
    assert json.loads(json.dumps(record)) == record


def test_no_steps_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "train", "--steps", "0"])
    assert ended.value.code == 2
    with pytest.raises(InputError, match="model must be one of"):
        TrainConfig(model="none")
