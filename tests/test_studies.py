"""Claims about the studies in tools/ that make records: they train what they say, and go on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tool import load_tool

from ngs.records import read_records
from ngs.train.config import TrainConfig
from ngs.train.data import load

depth_study, guard_study = load_tool("depth_study"), load_tool("guard_study")


def test_the_depth_study_records_every_rate_and_seed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_study, "RATES", (0.01, 1e6))
    monkeypatch.setattr(depth_study, "SEEDS", (0, 1))
    monkeypatch.setattr(depth_study, "STEPS", 40)
    monkeypatch.setattr(depth_study, "settings", lambda: iter([("none", "NGS", 2.0, 3)] * 2))
    out = tmp_path / "depth.jsonl"
    done = CliRunner().invoke(depth_study.main, ["--out", str(out)])
    assert done.exit_code == 0, done.output
    (record,) = read_records(out)
    assert list(record["losses"]) == ["0.01", "1e+06"]
    assert all(0.0 < loss < 2.3 for loss in record["losses"]["0.01"])
    assert record["losses"]["1e+06"] == [None, None]


def test_the_depth_study_names_what_it_can_build() -> None:
    for remedy, optimizer, c, depth in depth_study.settings():
        assert optimizer in depth_study.OPTIMIZERS
        assert remedy == "none" or remedy in depth_study.REMEDIES
        assert depth in depth_study.DEPTHS
        assert c in depth_study.SIZES
    assert len(set(depth_study.settings())) == len(list(depth_study.settings()))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(
        model="small", epochs=2, train_images=400, validation=100, side=8, precision="float32"
    )
    monkeypatch.setattr(guard_study, "BASE", config)


def test_the_guard_study_runs_every_fault_with_and_without_a_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None
) -> None:
    out = tmp_path / "faults.jsonl"
    words = ["faults", "--seeds", "0", "--dataset", "offline", "--out", str(out)]
    for _ in range(2):  # the second time all is recorded
        done = CliRunner().invoke(guard_study.main, words)
        assert done.exit_code == 0, done.output
    records = read_records(out)
    found = [(r["fault"], r["config"]["guard"], r["config"]["batch_norm"]) for r in records]
    assert len(set(found)) == len(found) == 2 * (5 + 7)
    undisturbed = [r for r in records if r["fault"] == "none" and r["config"]["batch_norm"]]
    assert undisturbed[0]["test"] == undisturbed[1]["test"]
    assert all(r["kind"] == "fault" and ("test" in r or r["failed"]) for r in records)


def test_the_cost_of_the_guard_is_timed_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, small = tmp_path / "cost.jsonl", load("offline").reduced(256, 32)
    monkeypatch.setattr(guard_study, "TIMED", (("convnet-narrow", 32),))
    set_up = guard_study.set_up

    def tiny_set_up(config: TrainConfig) -> Any:
        return set_up(config, data=small)

    monkeypatch.setattr(guard_study, "set_up", tiny_set_up)
    done = CliRunner().invoke(guard_study.main, ["cost", "--blocks", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    (record,) = read_records(out)
    (row,) = record["rows"]
    assert row["share"] == pytest.approx(row["with_ms"] / row["without_ms"] - 1.0, abs=0.01)
    assert record["threads"] == torch.get_num_threads()
