"""Claims about many runs: their order, that an interrupted study goes on and loses nothing, how
runs that diverged count, the table's numbers, and what ``compare`` and ``bench step`` refuse.
"""

import dataclasses
import itertools
import json
import math
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from scipy import stats
from terminal import started

from ngs import cli
from ngs.errors import InputError
from ngs.records import read_records
from ngs.train import bench, compare, curves, loop, models, offline, records
from ngs.train.bench import bench_step
from ngs.train.checkpoint import alone, checkpoint_path
from ngs.train.compare import (
    Row,
    grid,
    margin,
    recorded,
    report,
    run_all,
    summarize,
    table,
    tuned,
    unfinished,
)
from ngs.train.config import TrainConfig

BASE = TrainConfig(
    model="small", epochs=1, batch_size=40, train_images=80, device="cpu", precision="float32"
)


@pytest.fixture(autouse=True)
def few_images_and_a_tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = offline.generate(160, seed=3)
    parts = (images[:120], labels[:120], images[120:], labels[120:])
    monkeypatch.setattr(offline, "train_and_test", lambda: parts)
    monkeypatch.setitem(models.MODELS, "small", lambda norm: models.SmallNet((2, 3), norm))


@pytest.fixture(autouse=True)
def locks_in_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Or every run would leave one in the folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(tempfile, "tempdir", None)  # ask again


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The settings of every run that begins."""
    begun: list[TrainConfig] = []
    run = compare.train

    def spy(config: TrainConfig, **kwargs: Any) -> Any:
        begun.append(config)
        return run(config, **kwargs)

    monkeypatch.setattr(compare, "train", spy)
    return begun


# The grid ---------------------------------------------------------------------------------------


def test_the_grid_has_seeds_outermost_and_learning_rates_innermost() -> None:
    found = grid(BASE, ["sgd", "ngs"], [0.1, 0.3], [5, 2])
    assert [(c.seed, c.optimizer, c.lr) for c in found] == [
        (5, "sgd", 0.1), (5, "sgd", 0.3), (5, "ngs", 0.1), (5, "ngs", 0.3),
        (2, "sgd", 0.1), (2, "sgd", 0.3), (2, "ngs", 0.1), (2, "ngs", 0.3),
    ]  # fmt: skip
    for config in found:
        assert dataclasses.replace(config, optimizer="ngs", lr=0.05, seed=0) == BASE


@pytest.mark.parametrize(
    ("optimizers", "lrs", "seeds", "message"),
    [
        ([], [0.1], [0], "optimizers must be one or more, got none"),
        (["ngs"], [], [0], "lrs must be one or more, got none"),
        (["ngs"], [0.1], [], "seeds must be one or more, got none"),
        (["ngs", "sgd", "ngs"], [0.1], [0], "optimizers must all be different, got ngs more"),
        (["ngs"], [0.1, 0.1], [0], "lrs must all be different, got 0.1 more than once"),
        (["ngs"], [0.1], [3, 1, 3], "seeds must all be different, got 3 more than once"),
        (["ngs", "lion"], [0.1], [0], "optimizer must be one of .*'lion'"),
        (["ngs"], [0.1, math.nan], [0], "lr must be finite"),
        (["ngs"], [0.1], [0, -1], "seed must lie in"),
    ],
)
def test_a_list_that_no_study_can_use_is_refused(
    optimizers: list[str], lrs: list[float], seeds: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        grid(BASE, optimizers, lrs, seeds)


# Running ----------------------------------------------------------------------------------------


def test_every_run_is_recorded_in_order_and_a_second_call_trains_and_loads_nothing(
    trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configs = grid(BASE, ["sgd-nesterov", "ngs"], [0.02], [0, 1])
    path, lines = tmp_path / "study.jsonl", list[str]()
    run_all(configs, path, command="ngs compare", say=lines.append)
    assert trained == configs
    found = read_records(path)
    assert [r["config"] for r in found] == [dataclasses.asdict(c) for c in configs]
    assert {r["command"] for r in found} == {"ngs compare"}
    assert all(r["images"]["train"] == 80 and 0.0 <= r["test"]["accuracy"] <= 1.0 for r in found)
    assert lines[0] == "4 runs, 0 of them recorded already"
    assert [line.split("  ")[0] for line in lines[1:]] == ["1/4", "2/4", "3/4", "4/4"]
    assert "ngs, lr 0.02, seed 1: test accuracy" in lines[-1]

    def loaded(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the data were loaded")

    before = path.read_bytes()
    monkeypatch.setattr(compare, "load", loaded)
    run_all(configs, path, command="again", say=lines.append)
    assert trained == configs
    assert path.read_bytes() == before
    assert lines[-1] == "4 runs, 4 of them recorded already"


def test_a_run_in_a_study_is_the_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    configs = grid(BASE, ["ngs", "sgd"], [0.02], [3])
    run_all(configs, path, command="")
    for config, record in zip(configs, read_records(path), strict=True):
        _, alone = loop.train(config)
        assert alone["test"] == record["test"]


def test_an_interrupted_study_keeps_its_whole_runs_and_goes_on_after_them(
    trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, steps = tmp_path / "study.jsonl", 0
    configs = grid(BASE, ["ngs"], [0.01, 0.02, 0.03], [0])
    step = loop.Run.train_step

    def interrupted(self: loop.Run, *batch: torch.Tensor) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:  # of two a run: in the middle of the second
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_all(configs, path, command="")
    kept = path.read_bytes()
    assert [r["config"]["lr"] for r in read_records(path)] == [0.01]
    trained.clear()
    run_all(configs, path, command="")
    assert [c.lr for c in trained] == [0.02, 0.03]
    assert path.read_bytes().startswith(kept)
    assert [r["config"]["lr"] for r in read_records(path)] == [0.01, 0.02, 0.03]


ENDLESS = """
import sys
from pathlib import Path
from ngs.train import compare, models, offline
from ngs.train.config import TrainConfig

images, labels = offline.generate(160, seed=3)
offline.train_and_test = lambda: (images[:120], labels[:120], images[120:], labels[120:])
models.MODELS["small"] = lambda norm: models.SmallNet((2, 3), norm)
base = TrainConfig(model="small", epochs=1, batch_size=40, device="cpu", precision="float32")
configs = compare.grid(base, ["ngs"], [0.01], range(10_000))
compare.run_all(configs, Path(sys.argv[1]), command="x" * 100_000)
"""


def test_a_killed_study_leaves_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, path])
    try:
        begin = time.monotonic()
        while not path.is_file() or path.stat().st_size < 300_000:
            assert process.poll() is None
            assert time.monotonic() - begin < 120.0
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_bytes().endswith(b"}\n")
    found = read_records(path)
    assert [r["config"]["seed"] for r in found] == list(range(len(found)))


def test_a_run_that_diverges_is_recorded_as_failed_and_the_study_goes_on(tmp_path: Path) -> None:
    path, lines = tmp_path / "study.jsonl", list[str]()
    base = dataclasses.replace(BASE, batch_norm=False, schedule="constant", validation=20)
    run_all(grid(base, ["sgd"], [1e30, 0.01], [0]), path, command="typed", say=lines.append)
    failed, fine = read_records(path)
    assert (failed["kind"], failed["command"]) == ("train", "typed")
    assert failed["config"]["lr"] == 1e30
    assert "lower --lr" in failed["failed"]
    assert failed["failed"] in lines[1]
    assert "test" not in failed
    provenance = {"date", "commit", "modified", "device", "threads", "versions", "system"}
    assert provenance < set(failed)
    assert all(failed[key] == fine[key] for key in provenance - {"date"})
    rows = summarize([failed, fine])
    assert [(r.lr, r.failed) for r in rows] == [(0.01, 0), (1e30, 1)]
    assert (rows[1].test, rows[1].validation) == (0.1, 0.1)
    lines.clear()
    run_all(grid(base, ["sgd"], [1e30, 0.01], [0]), path, command="", say=lines.append)
    assert lines == ["2 runs, 2 of them recorded already"]  # failing once is enough


def test_a_missing_peer_stops_the_study_before_its_first_run(
    trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "study.jsonl"
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(ImportError, match=r"prodigy needs prodigyopt: pip install 'ngs\[peers\]'"):
        run_all(grid(BASE, ["ngs", "prodigy"], [0.1], [0]), path, command="")
    assert trained == []
    assert not path.exists()


def test_no_runs_at_all_are_no_error(tmp_path: Path) -> None:
    run_all([], tmp_path / "study.jsonl", command="")
    assert list(tmp_path.iterdir()) == []


def test_records_of_other_kinds_and_settings_in_the_file_are_passed_over(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    configs = grid(BASE, ["ngs"], [0.02], [0, 1])
    run_all(configs[:1], path, command="")
    alike = {"kind": "another", "config": dataclasses.asdict(configs[1])}
    for other in ({"kind": "data"}, {"kind": "bench-step", "rows": []}, {"kind": "train"}, alike):
        records.append_record(path, other)
    run_all([dataclasses.replace(configs[0], momentum=0.5)], path, command="")
    run_all(configs, path, command="")
    assert [c.seed for c in trained] == [0, 0, 1]
    assert [r["config"] for r in recorded(configs, path)] == [
        dataclasses.asdict(c) for c in configs
    ]


def test_a_record_from_before_a_setting_was_there_counts_for_the_default_of_that_setting(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    early = dataclasses.asdict(BASE)
    del early["factor_every"]
    records.append_record(path, {"kind": "train", "config": early})
    later = dataclasses.replace(BASE, factor_every=2)
    run_all([BASE, later], path, command="")
    assert trained == [later]


def test_a_run_that_is_in_the_file_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    config = dataclasses.asdict(BASE)
    for accuracy in (0.5, 0.7):
        run = {"kind": "train", "config": config, "test": {"accuracy": accuracy}, "epochs": [{}]}
        records.append_record(path, run)
    (row,) = summarize(recorded([BASE], path))
    assert (row.seeds, row.test) == (1, 0.5)


def test_a_file_that_holds_no_records_is_refused_before_anything_is_trained(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine\n")
    with pytest.raises(InputError, match=r"notes\.txt, line 1, is not JSON"):
        run_all([BASE], path, command="")
    assert trained == []
    assert path.read_text() == "mine\n"


# Side by side and in mid-run --------------------------------------------------------------------


def test_a_run_that_another_process_has_is_left_to_it_and_asked_for_again_at_the_end(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path, lines = tmp_path / "study.jsonl", list[str]()
    configs = grid(BASE, ["ngs"], [0.01, 0.02, 0.03], [0])
    with alone(checkpoint_path(unfinished(path), configs[0])):
        run_all(configs, path, command="", say=lines.append)
    assert [c.lr for c in trained] == [0.02, 0.03]
    assert lines[-1] == (
        "1 run still under way in another process, such as 1/3  ngs, lr 0.01, seed 0: "
        "give the command again when it is done"
    )
    assert [r["config"]["lr"] for r in read_records(path)] == [0.02, 0.03]
    lines.clear()
    run_all(configs, path, command="", say=lines.append)
    assert [c.lr for c in trained] == [0.02, 0.03, 0.01]
    assert lines[0] == "3 runs, 2 of them recorded already"
    assert not any("under way" in line for line in lines)


def test_a_run_that_another_process_gave_up_is_trained_at_the_end(
    trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "study.jsonl"
    configs = grid(BASE, ["ngs"], [0.01, 0.02], [0])
    other = alone(checkpoint_path(unfinished(path), configs[0]))
    other.__enter__()
    append = compare.append_record

    def append_and_let_go(path: Path, record: records.Record) -> None:
        append(path, record)
        if record["config"]["lr"] == 0.02:
            other.__exit__(None, None, None)

    monkeypatch.setattr(compare, "append_record", append_and_let_go)
    run_all(configs, path, command="")
    assert [c.lr for c in trained] == [0.02, 0.01]


def test_a_run_that_another_process_records_meanwhile_is_not_trained_again(
    trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, lines = tmp_path / "study.jsonl", list[str]()
    configs = grid(BASE, ["ngs"], [0.01, 0.02, 0.03], [0])
    append = compare.append_record

    def append_two(path: Path, record: records.Record) -> None:
        append(path, record)
        if record["config"]["lr"] == 0.01:
            second = {**record, "config": {**record["config"], "lr": 0.02}, "command": "theirs"}
            append(path, second)

    monkeypatch.setattr(compare, "append_record", append_two)
    run_all(configs, path, command="ours", say=lines.append)
    assert [c.lr for c in trained] == [0.01, 0.03]
    assert lines[2] == "2/3  ngs, lr 0.02, seed 0: recorded by another process"
    assert [r["command"] for r in read_records(path)] == ["ours", "theirs", "ours"]


STUDY = ENDLESS.replace("range(10_000)", "range(30)").replace('"x" * 100_000', "sys.argv[2]")


def test_two_processes_share_the_work_and_do_every_run_once(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    both = [
        subprocess.Popen([sys.executable, "-c", STUDY, path, name], stderr=subprocess.PIPE)
        for name in ("first", "second")
    ]
    try:
        assert [process.communicate(timeout=300)[1] for process in both] == [b"", b""]
    finally:
        for process in both:
            process.kill()
            process.wait()
    found = read_records(path)
    assert sorted(r["config"]["seed"] for r in found) == list(range(30))
    assert {r["command"] for r in found} == {"first", "second"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("after", [1, 3, 4])  # two steps a run: in its middle, or at its very end
def test_a_study_that_is_stopped_goes_on_in_mid_run_and_ends_as_if_it_had_not_been(
    after: int, trained: list[TrainConfig], tmp_path: Path
) -> None:
    path, whole = tmp_path / "study.jsonl", tmp_path / "whole.jsonl"
    configs = grid(dataclasses.replace(BASE, epochs=2), ["ngs"], [0.02], [0])
    run_all(configs, whole, command="")
    assert list(tmp_path.iterdir()) == [whole]  # no folder that nothing needed
    steps = itertools.count(1)
    with pytest.raises(loop.Stopped):
        run_all(configs, path, command="", stop=lambda: next(steps) == after + 1)
    assert not path.exists()
    assert [p.suffix for p in unfinished(path).iterdir()] == [".ckpt"]
    run_all(configs, path, command="")
    assert not unfinished(path).exists()
    (first,), (second,) = read_records(whole), read_records(path)
    assert second["parts"] == 2
    assert second["test"] == first["test"]


def test_a_study_that_is_stopped_between_two_runs_leaves_no_empty_run(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    configs = grid(BASE, ["ngs"], [0.02], [0, 1])
    with pytest.raises(loop.Stopped):
        run_all(configs, path, command="", stop=path.is_file)
    assert [r["config"]["seed"] for r in read_records(path)] == [0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_study_goes_on_from_its_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "study.jsonl"
    code = (
        ENDLESS.replace("epochs=1", "epochs=int(sys.argv[2])")
        .replace("range(10_000)", "[0]")
        .replace('command="x" * 100_000', 'command="", save_every=0.0')
    )
    process = subprocess.Popen([sys.executable, "-c", code, path, "100000"])
    try:
        begin = time.monotonic()
        while not list(unfinished(path).glob("*.ckpt")):
            assert process.poll() is None
            assert time.monotonic() - begin < 50.0  # the usual 60 s would be too late
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = unfinished(path).glob("*.ckpt")
    content = torch.load(left, weights_only=True)
    assert content["state"]["step"] >= 1
    config = TrainConfig(**content["config"])
    assert checkpoint_path(unfinished(path), config) == left
    steps: list[int] = []
    step = loop.Run.train_step

    def spy(self: loop.Run, *batch: torch.Tensor) -> Any:
        steps.append(self.step)
        return step(self, *batch)

    monkeypatch.setattr(loop.Run, "train_step", spy)
    with pytest.raises(loop.Stopped):
        run_all([config], path, command="", stop=lambda: bool(steps))
    assert steps == [content["state"]["step"]]


def test_the_checkpoint_of_a_run_that_is_recorded_goes_and_anothers_stays(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    configs = grid(BASE, ["ngs"], [0.02, 0.03], [0])
    run_all(configs[:1], path, command="")
    unfinished(path).mkdir()
    mine, theirs = (checkpoint_path(unfinished(path), config) for config in configs)
    for checkpoint in (mine, theirs):  # killed between the record and the end of the run
        checkpoint.write_bytes(b"old")
    run_all(configs[:1], path, command="")
    assert list(unfinished(path).iterdir()) == [theirs]


def test_a_run_that_diverges_leaves_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    base = dataclasses.replace(BASE, batch_norm=False, schedule="constant")
    run_all(grid(base, ["sgd"], [1e30], [0]), path, command="", save_every=0.0)
    assert list(tmp_path.iterdir()) == [path]


# The table --------------------------------------------------------------------------------------


def record(
    optimizer: str, lr: float, test: float | None, validation: float | None = None
) -> records.Record:
    """A record by hand; without an accuracy it is that of a run that failed."""
    config = {"optimizer": optimizer, "lr": lr, "validation": 0 if validation is None else 100}
    if test is None:
        return {"config": config, "failed": "the training loss became nan"}
    row = {} if validation is None else {"validation": {"accuracy": validation}}
    early = {} if validation is None else {"validation": {"accuracy": 0.0}}
    return {"config": config, "test": {"accuracy": test}, "epochs": [early, row]}


def test_the_seeds_of_an_optimizer_and_learning_rate_make_one_row() -> None:
    rows = summarize([
        record("sgd", 0.1, 0.6),
        record("ngs", 0.3, 0.8, 0.7),
        record("ngs", 0.1, 0.5, 0.4),
        record("ngs", 0.3, 0.6, 0.8),
        record("sgd", 0.1, 0.7),
    ])  # fmt: skip
    assert [(r.optimizer, r.lr, r.seeds, r.failed) for r in rows] == [
        ("ngs", 0.1, 1, 0), ("ngs", 0.3, 2, 0), ("sgd", 0.1, 2, 0),
    ]  # fmt: skip
    assert [r.test for r in rows] == pytest.approx([0.5, 0.7, 0.65])
    assert [r.validation for r in rows[:2]] == pytest.approx([0.4, 0.75])  # of the last epoch
    assert rows[2].validation is None
    assert rows[0].margin == math.inf
    assert rows[1].margin == pytest.approx(12.706 * 0.1)  # s = 0.1 sqrt 2, and sqrt 2 seeds


def test_a_mean_over_some_of_the_seeds_is_no_validation_accuracy() -> None:
    (row,) = summarize([record("ngs", 0.1, 0.5, 0.4), record("ngs", 0.1, 0.6)])
    assert (row.seeds, row.validation) == (2, None)


def test_runs_that_failed_count_as_chance() -> None:
    (row,) = summarize([record("ngs", 0.1, 0.7), record("ngs", 0.1, None)])
    assert (row.seeds, row.failed) == (2, 1)
    assert row.test == pytest.approx(0.4)
    assert row.margin > 0.0
    failed = record("ngs", 0.1, None)
    failed["config"]["validation"] = 100
    (held,) = summarize([record("ngs", 0.1, 0.7, 0.5), failed])
    assert held.validation == pytest.approx(0.3)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 31, 100, 1000])
def test_the_margin_is_students_interval(n: int) -> None:
    values = [0.5 + 0.01 * math.sin(7.0 * k) for k in range(n)]
    mean, sem = sum(values) / n, stats.sem(values)
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=sem)
    assert margin(values) == pytest.approx((high - low) / 2.0, rel=3e-4)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_a_single_seed_has_no_interval(values: list[float]) -> None:
    assert margin(values) == math.inf


def test_the_table_prints_every_row_under_its_heading() -> None:
    lines = table([
        Row("ngs", 0.125, 5, 1, 0.71234, 0.70123, 0.0123),
        Row("schedule-free", 0.00123, 1, 0, None, 1.0, math.inf),
    ])  # fmt: skip
    heading, first, second = (line.split() for line in lines)
    assert heading[:6] == ["optimizer", "lr", "seeds", "failed", "validation", "test"]
    assert first == ["ngs", "0.125", "5", "1", "71.23%", "70.12%", "±", "1.23%"]
    assert second == ["schedule-free", "0.00123", "1", "0", "-", "100.00%"]
    for name in ("seeds", "failed"):
        end = lines[0].index(name) + len(name)
        assert lines[1][end - 1].isdigit()
        assert lines[1][end] == " "


# The report -------------------------------------------------------------------------------------


def seeded(
    optimizer: str,
    lr: float,
    runs: dict[int, tuple[float, float, float] | None],
    held_out: int = 100,
    commit: str = "a" * 40,
) -> list[records.Record]:
    """Records by hand, from validation, training and test accuracy by seed; None diverged."""
    found = []
    for seed, run in runs.items():
        config = {"optimizer": optimizer, "lr": lr, "seed": seed, "validation": held_out}
        record: records.Record = {"kind": "train", "config": config, "commit": commit}
        if run is None:
            found.append({**record, "failed": "the training loss became nan"})
            continue
        validation, training, test = run
        row: records.Record = {"train_accuracy": training, "seconds": 2.0}
        if held_out:
            row["validation"] = {"accuracy": validation}
        first = {"train_accuracy": 0.1, "validation": {"accuracy": 0.2}, "seconds": 1.0}
        found.append({**record, "epochs": [first, row], "test": {"accuracy": test}})
    return found


def flat(optimizer: str, *accuracies: tuple[float, float, float]) -> list[records.Record]:
    """Two seeds each at the learning rates 0.1, 0.2, ..."""
    return [
        record
        for number, run in enumerate(accuracies, start=1)
        for record in seeded(optimizer, number / 10.0, {0: run, 1: run})
    ]


def test_learning_rates_are_chosen_by_validation_never_by_test_accuracy() -> None:
    found = flat("ngs", (0.3, 0.9, 0.5), (0.5, 0.2, 0.4), (0.4, 0.3, 0.9))
    (best,) = tuned(found, ["ngs", "sgd"])
    assert (best.optimizer, best.lr, best.lrs, best.seeds) == ("ngs", 0.2, (0.1, 0.2, 0.3), (2, 2))
    assert sorted(best.runs) == [0, 1]
    for record in found:
        record["config"]["validation"] = 0
    (best,) = tuned(found, ["ngs"])
    assert best.lr == 0.1  # by training accuracy


def test_a_rate_that_lacks_seeds_is_not_chosen_and_one_that_diverges_counts_as_chance() -> None:
    found = [
        *seeded("ngs", 0.1, {0: (0.5, 0.5, 0.5), 1: (0.5, 0.5, 0.5)}),
        *seeded("ngs", 0.2, {0: (0.8, 0.8, 0.8), 1: None}),
        *seeded("ngs", 0.3, {0: (0.9, 0.9, 0.9)}),
    ]
    (best,) = tuned(found, ["ngs"])
    assert (best.lr, best.lrs, best.seeds) == (0.1, (0.1, 0.2), (1, 2))


def test_the_report_begins_with_the_tuning_budget() -> None:
    high = (0.5, 0.5, 0.5)
    ngs, sgd = flat("ngs", high, high, high), flat("sgd", high, high, high)
    assert report([*ngs, *sgd], ["ngs", "sgd"])[0] == (
        "tuning budget of each optimizer: 3 learning rates and 2 seeds"
    )
    assert report([*ngs, *sgd[:3]], ["ngs", "sgd"])[0] == (
        "tuning budgets are not equal: ngs: 3 learning rates and 2 seeds; "
        "sgd: 2 learning rates and 1 to 2 seeds"
    )
    assert report([], ["ngs"]) == []


def warned(found: list[records.Record], *optimizers: str) -> list[str]:
    return [line for line in report(found, optimizers) if line.startswith("warning: ")]


def test_a_best_rate_at_an_end_of_its_range_is_warned_of_by_optimizer() -> None:
    low, high = (0.3, 0.3, 0.9), (0.5, 0.5, 0.5)
    inside, lowest, highest = [low, high, low], [high, low, low], [low, low, high]
    assert warned(flat("ngs", *inside), "ngs") == []
    said = "warning: the best learning rate of {} by validation accuracy, {}, is the {} tried: "
    assert warned([*flat("ngs", *lowest), *flat("sgd", *highest)], "sgd", "ngs") == [
        said.format("sgd", 0.3, "highest") + "try higher ones",
        said.format("ngs", 0.1, "lowest") + "try lower ones",
    ]
    assert warned(flat("ngs", low), "ngs") == [
        "warning: ngs is not tuned: 0.1 is its only learning rate"
    ]


def test_records_of_several_commits_in_one_table_are_warned_of_in_one_line() -> None:
    runs = {0: (0.5, 0.5, 0.5)}
    found = [
        record
        for lr, commit in ((0.1, "a"), (0.2, "b"), (0.3, "c"), (0.4, "c"))
        for record in seeded("ngs", lr, runs, commit=commit)
    ]
    assert warned(found, "ngs")[0] == (
        "warning: these runs were made at 3 commits: their code may differ"
    )
    assert not any("commits" in line for line in warned(found[2:], "ngs"))


def after_the_table(found: list[records.Record], *optimizers: str) -> list[list[str]]:
    lines = report(found, optimizers)
    return [line.split() for line in lines[lines.index(table(summarize(found))[-1]) + 1 :]]


def test_each_optimizer_is_set_beside_the_first_seed_by_seed() -> None:
    tests = {
        "sgd": [0.50, 0.60, 0.70],
        "ngs": [0.52, 0.63, 0.71],  # 2, 3 and 1 points more
        "adam": [0.45, 0.54, 0.66],
        "nadam": [0.40, 0.70, 0.70],
    }
    found = [
        record
        for name, accuracies in tests.items()
        for record in seeded(name, 0.1, {s: (0.5, 0.5, x) for s, x in enumerate(accuracies)})
    ]
    found += seeded("ngs", 0.2, dict.fromkeys(range(3), (0.4, 0.9, 1.0)))  # worse by validation
    heading, *lines = after_the_table(found, "sgd", "ngs", "adam", "nadam")
    text = " ".join(heading)
    assert "minus that of sgd at lr 0.1, in points, paired by seed" in text
    assert "best lr by validation accuracy" in text
    assert [line[:4] for line in lines] == [
        ["ngs", "0.1", "3", "seeds"], ["adam", "0.1", "3", "seeds"], ["nadam", "0.1", "3", "seeds"],
    ]  # fmt: skip
    for line, accuracies in zip(lines, list(tests.values())[1:], strict=True):
        pairs = [100 * (a - b) for a, b in zip(accuracies, tests["sgd"], strict=True)]
        low, high = stats.t.interval(0.95, 2, loc=sum(pairs) / 3, scale=stats.sem(pairs))
        assert float(line[4]) == pytest.approx(sum(pairs) / 3, abs=0.006)
        assert line[5] == "±"
        assert float(line[6]) == pytest.approx((high - low) / 2, abs=0.01)
    # ± 2.48, ± 2.48 and ± 24.8 points
    assert [line[7:] for line in lines] == [
        ["no", "difference", "shown"], ["worse"], ["no", "difference", "shown"],
    ]  # fmt: skip
    _, back = after_the_table([r for r in found if r["config"]["optimizer"] in ("sgd", "adam")],
                              "adam", "sgd")  # fmt: skip
    assert back[-1] == "better"


def test_only_seeds_of_both_are_paired_and_one_pair_shows_nothing() -> None:
    found = [
        *seeded("sgd", 0.1, {0: (0.5, 0.5, 0.5), 1: (0.5, 0.5, 0.6), 2: (0.5, 0.5, 0.7)}),
        *seeded("ngs", 0.1, {2: (0.5, 0.5, 0.8), 3: (0.5, 0.5, 0.1)}),
        *seeded("adam", 0.1, {7: (0.5, 0.5, 0.8)}),
    ]
    _, ngs, adam = after_the_table(found, "sgd", "ngs", "adam")
    assert ngs == ["ngs", "0.1", "1", "seed", "+10.00", "no", "difference", "shown"]
    assert adam == ["adam", "0.1", "0", "seeds", "no", "difference", "shown"]


def test_a_seed_that_diverged_is_paired_as_chance() -> None:
    found = [
        *seeded("sgd", 0.1, {0: (0.5, 0.5, 0.5), 1: (0.5, 0.5, 0.5)}),
        *seeded("ngs", 0.1, {0: None, 1: None}),
    ]
    assert after_the_table(found, "sgd", "ngs")[1][4:] == ["-40.00", "±", "0.00", "worse"]


def test_one_optimizer_or_a_first_without_runs_has_no_differences() -> None:
    found = flat("ngs", (0.5, 0.5, 0.5))
    assert after_the_table(found, "ngs") == []
    assert after_the_table(found, "sgd", "ngs") == []


def test_names_of_any_length_leave_the_columns_under_their_headings() -> None:
    lines = table([
        Row("ngs-factor-rescaled", 0.1, 5, 0, 0.7, 0.7, 0.01), Row("ngs", 0.1, 5, 0, 0.7, 0.7, 0.1)
    ])  # fmt: skip
    end = lines[0].index("seeds") + len("seeds")
    assert [line[end - 2 : end + 1] for line in lines[1:]] == [" 5 ", " 5 "]


# The figure -------------------------------------------------------------------------------------


def test_a_curve_is_the_mean_over_the_seeds_with_their_range_at_the_best_rate() -> None:
    found = [
        *seeded("ngs", 0.1, {0: (0.5, 0.6, 0.9), 1: (0.7, 0.8, 0.1)}),
        *seeded("ngs", 0.2, {0: (0.3, 0.9, 1.0), 1: (0.3, 0.9, 1.0)}),  # best by training and test
    ]
    found[1]["epochs"][1]["seconds"] = 6.0
    (best,) = tuned(found, ["ngs"])
    one = curves.curve(best, "validation")
    assert one.label == "ngs, lr 0.1"
    assert one.mean == pytest.approx([20.0, 60.0])
    assert (one.low, one.high) == (pytest.approx([20.0, 50.0]), pytest.approx([20.0, 70.0]))
    assert one.seconds == pytest.approx([1.0, 5.0])  # cumulated
    assert curves.curve(best, "training").mean == pytest.approx([10.0, 70.0])


def test_runs_that_diverged_are_counted_in_the_legend_and_not_drawn() -> None:
    found = [
        *seeded("ngs", 0.1, {0: (0.5, 0.5, 0.5), 1: None}),
        *seeded("sgd", 0.1, {0: None, 1: None}),
    ]
    figure = curves.draw(found, ["ngs", "sgd"])
    left, right = figure.axes
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "ngs, lr 0.1 (1 of 2 diverged)", "sgd, lr 0.1 (2 of 2 diverged)",
    ]  # fmt: skip
    for panel in (left, right):
        assert list(panel.lines[0].get_ydata()) == pytest.approx([20.0, 50.0])
        assert list(panel.lines[1].get_ydata()) == []


@pytest.mark.parametrize(("held_out", "by"), [(100, "validation"), (0, "training")])
def test_the_axes_say_which_accuracy_is_shown_against_what(held_out: int, by: str) -> None:
    found = seeded("ngs", 0.1, {0: (0.5, 0.6, 0.7)}, held_out)
    left, right = curves.draw(found, ["ngs"]).axes
    assert left.get_ylabel() == f"{by} accuracy (%)"
    assert (left.get_xlabel(), right.get_xlabel()) == ("epochs", "seconds of training")
    assert list(left.lines[0].get_xdata()) == [1, 2]
    assert list(right.lines[0].get_xdata()) == [1.0, 3.0]
    assert left.lines[0].get_ydata()[1] == pytest.approx(50.0 if held_out else 60.0)


def test_lines_stay_apart_when_the_colours_are_used_up() -> None:
    names = [f"optimizer {n}" for n in range(14)]
    found = [r for name in names for r in seeded(name, 0.1, {0: (0.5, 0.5, 0.5)})]
    left, _ = curves.draw(found, names).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in left.lines}) == 14


# The commands -----------------------------------------------------------------------------------

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command inside this process, as if typed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ngs", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


def is_one_line(text: str) -> bool:
    return text.startswith("ngs: ") and text.endswith("\n") and text.count("\n") == 1


QUICK = (
    *("--model", "small", "--epochs", "1", "--batch-size", "40", "--train-images", "80"),
    *("--device", "cpu", "--precision", "float32"),
)


def test_compare_prints_a_table_of_what_it_trained_and_records_what_was_typed(
    call: Call, trained: list[TrainConfig], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "study.jsonl"
    typed = [
        "compare", "--optimizers", "sgd-nesterov, ngs", "--lrs", "0.02, 0.01", "--seeds", "0,1",
        *QUICK, "--validation", "30", "--out", str(out),
    ]  # fmt: skip
    code, printed, err = call(*typed)
    assert (code, err) == (0, "")
    assert len(trained) == 8
    found = read_records(out)
    assert all(shlex.split(r["command"]) == ["ngs", *typed] for r in found)
    lines = printed.splitlines()
    said = report(found, ["sgd-nesterov", "ngs"])
    assert lines[-len(said) :] == said
    assert said[0] == "tuning budget of each optimizer: 2 learning rates and 2 seeds"
    rows = table(summarize(found))
    assert said[-7:-2] == rows  # then a heading and ngs beside sgd-nesterov
    assert [line.split()[:3] for line in rows[1:]] == [
        ["ngs", "0.01", "2"], ["ngs", "0.02", "2"],
        ["sgd-nesterov", "0.01", "2"], ["sgd-nesterov", "0.02", "2"],
    ]  # fmt: skip
    # Part of it again: only the rows that were asked for, from the file.
    code, printed, _ = call(
        "compare", "--optimizers", "ngs", "--lrs", "0.01", "--seeds", "1,0", *QUICK,
        "--validation", "30", "--out", str(out),
    )  # fmt: skip
    assert len(trained) == 8
    assert printed.splitlines()[0] == "2 runs, 2 of them recorded already"
    assert printed.splitlines()[-1] == rows[1]
    assert len(printed.splitlines()) == 5  # a line on the budget, and one that ngs is not tuned


def test_every_setting_of_a_study_reaches_its_runs(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def run(configs: list[TrainConfig], path: Path, **kwargs: Any) -> NoReturn:
        seen.extend([configs, path, kwargs["download"]])
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "run_all", run)
    call(
        "compare", "--optimizers", "sgd", "--lrs", "0.3", "--seeds", "5", "--dataset", "cifar10",
        "--model", "small", "--epochs", "3", "--batch-size", "7", "--momentum", "0.8",
        "--weight-decay", "0.01", "--schedule", "constant", "--factor-every", "9",
        "--no-batch-norm",
        "--validation", "11", "--train-images", "13", "--side", "16", "--device", "cpu",
        "--precision", "bfloat16", "--no-download", "--out", str(tmp_path / "x.jsonl"),
    )  # fmt: skip
    typed = TrainConfig(
        dataset="cifar10", model="small", epochs=3, batch_size=7, optimizer="sgd", lr=0.3,
        momentum=0.8, weight_decay=0.01, schedule="constant", factor_every=9, batch_norm=False,
        validation=11,
        train_images=13, side=16, seed=5, device="cpu", precision="bfloat16",
    )  # fmt: skip
    assert seen == [[typed], tmp_path / "x.jsonl", False]


REFUSED = {
    "lrs not numbers": (["--lrs", "0.1,fast"], ["lrs must be numbers", "commas", "'0.1,fast'"]),
    "no lrs": (["--lrs", ""], ["lrs must be numbers", "''"]),
    "a comma too many": (["--lrs", "0.1,"], ["lrs must be numbers", "'0.1,'"]),
    "lr is nan": (["--lrs", "0.1,nan"], ["lr must be finite", "nan"]),
    "lr twice": (["--lrs", "0.1,1e-1"], ["lrs must all be different", "0.1"]),
    "half a seed": (["--seeds", "0,0.5"], ["seeds must be whole numbers", "'0,0.5'"]),
    "negative seed": (["--seeds", "0,-1"], ["seed must lie in 0", "-1"]),
    "seed twice": (["--seeds", "0,1,0"], ["seeds must all be different", "0"]),
    "unknown optimizer": (["--optimizers", "ngs,lion"], ["optimizer must be one of", "'lion'"]),
    "no optimizer": (["--optimizers", ""], ["optimizer must be one of", "''"]),
    "unknown model": (["--model", "resnet"], ["model must be one of", "'resnet'"]),
    "batch too large": (["--batch-size", "121"], ["batch-size", "at most the 120", "got 121"]),
    "momentum 1": (["--momentum", "1"], ["momentum must lie in [0, 1)", "1.0"]),
    "unknown option": (["--rate", "1"], ["--rate", "ngs compare --help"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_compare_refuses_in_one_line_before_anything_is_trained(
    name: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def begun(*args: Any) -> NoReturn:
        raise AssertionError("a run began")

    monkeypatch.setattr(loop.Run, "train_step", begun)
    typed, parts = REFUSED[name]
    code, _, err = call("compare", "--out", str(tmp_path / "study.jsonl"), *typed)
    assert code == 2
    assert is_one_line(err)
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["compare"], ["bench", "step", "--model", "small"]])
def test_an_out_that_cannot_be_a_file_of_records_is_refused_before_the_work(
    command: list[str], call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def begun(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the work began")

    monkeypatch.setattr(compare, "train", begun)
    monkeypatch.setattr(bench, "bench_step", begun)
    (tmp_path / "file").write_text("mine\n")
    for target in (tmp_path, tmp_path / "file" / "below.jsonl"):
        code, _, err = call(*command, "--out", str(target))
        assert code == 2
        assert is_one_line(err)
        assert str(target if target == tmp_path else target.parent) in err
        assert "out" in err
    assert (tmp_path / "file").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["curves.png", "new/curves.SVG"])
def test_compare_draws_a_figure_where_asked(name: str, call: Call, tmp_path: Path) -> None:
    figure = tmp_path / name
    typed = [
        "compare", "--lrs", "0.01", "--seeds", "0", *QUICK, "--out", str(tmp_path / "x.jsonl"),
        "--figure", str(figure),
    ]  # fmt: skip
    code, printed, err = call(*typed)
    assert (code, err) == (0, "")
    assert printed.splitlines()[-1] == f"figure: {figure}"
    before = figure.read_bytes()
    if figure.suffix == ".png":
        assert before.startswith(b"\x89PNG")
    else:
        assert before.startswith(b"<?xml")
        for text in (b"training accuracy", b"seconds of training", b"sgd-nesterov, lr 0.01"):
            assert text in before
    assert call(*typed)[0] == 0
    assert figure.read_bytes() == before  # the same records, the same file


def test_a_figure_that_cannot_be_kept_is_refused_before_the_work(
    call: Call, trained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine\n")
    (tmp_path / "folder.png").mkdir()
    out = ("compare", *QUICK, "--out", str(tmp_path / "x.jsonl"), "--figure")
    for target, part in (
        (tmp_path / "file" / "below.png", "figure: cannot write in"),
        (tmp_path / "folder.png", "--figure"),
        (tmp_path / "curves.pdf", "figure must end in .png or .svg"),
        (tmp_path / "curves", "figure must end in .png or .svg"),
    ):
        code, printed, err = call(*out, str(target))
        assert (code, printed) == (2, "")
        assert is_one_line(err)
        assert part in err
        assert target.name in err or str(target.parent) in err
    monkeypatch.delitem(sys.modules, "ngs.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = call(*out, str(tmp_path / "curves.png"))
    assert code == 2
    assert err == "ngs: ngs.figures needs matplotlib: pip install 'ngs[figures]'\n"
    assert trained == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_figure_that_a_full_disk_refuses_ends_in_one_line_and_code_1(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, content: bytes) -> NoReturn:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(curves, "write_whole", full)
    code, _, err = call(
        "compare", *QUICK, "--lrs", "0.01", "--seeds", "0", "--out", str(tmp_path / "x.jsonl"),
        "--figure", str(tmp_path / "x.png"),
    )  # fmt: skip
    assert code == 1
    assert is_one_line(err)
    assert "the runs are recorded in" in err
    assert "No space left on device" in err


def test_compare_refuses_a_file_of_another_kind(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine\n")
    code, _, err = call("compare", *QUICK, "--out", str(path))
    assert code == 2
    assert is_one_line(err)
    assert f"{path}, line 1, is not JSON" in err
    assert path.read_text() == "mine\n"


@pytest.mark.parametrize("command", ["compare", "train"])
def test_a_missing_peer_ends_in_one_line_and_code_2(
    command: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    option = "--optimizers" if command == "compare" else "--optimizer"
    code, _, err = call(command, *QUICK, option, "schedule-free", "--out", str(tmp_path / "x"))
    assert code == 2
    assert err == "ngs: optimizer schedule-free needs schedulefree: pip install 'ngs[peers]'\n"


def test_ctrl_c_says_that_finished_runs_are_kept(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, step, steps = tmp_path / "study.jsonl", loop.Run.train_step, []

    def interrupted(self: loop.Run, *batch: torch.Tensor) -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(loop.Run, "train_step", interrupted)
    code, _, err = call("compare", *QUICK, "--lrs", "0.01", "--seeds", "0", "--out", str(out))
    assert code == 130
    assert is_one_line(err.lstrip("\n"))
    assert "nothing was recorded" not in err
    assert str(out) in err
    assert [r["config"]["optimizer"] for r in read_records(out)] == ["sgd-nesterov"]


SAYS_EVERY_STEP = """
from ngs.cli import main
from ngs.train import loop, offline

offline.TRAIN, offline.TEST = 200, 50
step = loop.Run.train_step
loop.Run.train_step = lambda *given: (print("a step", flush=True), step(*given))[1]
main()
"""


def test_ctrl_c_saves_the_run_that_is_under_way_and_says_how_to_go_on(tmp_path: Path) -> None:
    typed = [
        "compare", "--optimizers", "ngs", "--lrs", "0.01", "--seeds", "0", "--epochs", "100000",
        "--device", "cpu", "--out", str(tmp_path / "study.jsonl"),
    ]  # fmt: skip
    process = started(SAYS_EVERY_STEP, *typed)
    try:
        assert process.stdout is not None
        assert any(line == "a step\n" for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last.startswith("ngs: stopped; the same command goes on after what ")
    assert str(tmp_path / "study.jsonl") in last
    assert len(list((tmp_path / "study.unfinished").glob("*.ckpt"))) == 1


def test_compare_with_every_run_under_way_elsewhere_says_so_and_prints_no_table(
    call: Call, tmp_path: Path
) -> None:
    out = tmp_path / "study.jsonl"
    (config,) = grid(dataclasses.replace(BASE), ["ngs"], [0.01], [0])
    typed = ["compare", *QUICK, "--optimizers", "ngs", "--lrs", "0.01", "--seeds", "0"]
    with alone(checkpoint_path(unfinished(out), config)):
        code, printed, err = call(*typed, "--out", str(out))
    assert (code, err) == (0, "")
    assert "still under way in another process" in printed.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_a_full_disk_ends_in_one_line_and_code_1(
    command: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, record: records.Record) -> NoReturn:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(compare, "append_record", full)
    monkeypatch.setattr(records, "append_record", full)
    typed = {
        "compare": ["compare", *QUICK, "--lrs", "0.01", "--seeds", "0"],
        "bench": ["bench", "step", "--model", "small", "--rounds", "1", "--device", "cpu"],
    }[command]
    code, _, err = call(*typed, "--out", str(tmp_path / "x.jsonl"))
    assert code == 1
    assert is_one_line(err)
    assert "No space left on device" in err


# bench step -------------------------------------------------------------------------------------

NAMES = {
    *("sgd for-loop", "sgd foreach", "sgd fused", "copy"),
    *("ngs for-loop", "ngs foreach", "ngs", "ngs, finiteness checked"),
    *("ngs, all on", "ngs, factor every 10th"),
}


@pytest.mark.parametrize("layout", bench.LAYOUTS)
def test_a_step_of_every_contestant_is_timed_beside_fused_sgd(layout: str) -> None:
    found = bench_step("small", layout, 3, torch.device("cpu"))
    assert set(found) == {
        *("kind", "date", "commit", "modified", "device", "threads", "versions", "system"),
        *("model", "parameters", "layout", "rounds", "rows"),
    }
    assert (found["kind"], found["model"], found["layout"]) == ("bench-step", "small", layout)
    assert found["rounds"] == 3
    assert found["parameters"] == models.parameter_count(models.SmallNet((2, 3)))
    assert len(found["rows"]) == len(NAMES)
    assert {row["name"] for row in found["rows"]} == NAMES
    for row in found["rows"]:
        assert set(row) == {"name", "median_ms", "ratio", "mean_ratio"}
        assert row["median_ms"] >= 0.0
        assert row["ratio"] > 0.0
    (reference,) = [row for row in found["rows"] if row["name"] == bench.REFERENCE]
    assert (reference["ratio"], reference["mean_ratio"]) == (1.0, 1.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_ratios_are_medians_over_rounds_and_warm_up_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    calls: dict[str, list[int]] = {"sgd fused": [], "ngs": []}
    order: list[str] = []
    seconds = {"sgd fused": [1.0, 2.0, 4.0], "ngs": [3.0, 2.0, 2.0]}

    def contestant(name: str) -> Callable[[], None]:
        def step() -> None:
            number = len(calls[name])
            calls[name].append(number)
            order.append(name)
            late = number - bench.WARMUP_STEPS
            clock[0] += seconds[name][late] if late >= 0 else 1000.0

        return step

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    steps = {name: contestant(name) for name in calls}
    monkeypatch.setattr(bench, "_contestants", lambda *args: (steps, 7))
    sgd, ngs = bench_step("small", "contiguous", 3, torch.device("cpu"))["rows"]
    assert (sgd["median_ms"], ngs["median_ms"]) == (2000.0, 2000.0)
    assert (ngs["ratio"], ngs["mean_ratio"]) == (1.0, 1.0)  # of 3, 1, 0.5; of 7 and 7
    assert order[:4] == ["sgd fused", "ngs", "ngs", "sgd fused"]  # nobody always comes first


def test_contestants_start_alike_and_their_learning_rate_moves_at_every_step() -> None:
    steps, count = bench._contestants("small", "channels_last", torch.device("cpu"))
    assert set(steps) == NAMES
    assert count == models.parameter_count(models.SmallNet((2, 3)))
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    step, rates = bench._moving(optimizer), []
    for _ in range(8):
        step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert all(a != b for a, b in itertools.pairwise(rates))


def test_bench_step_prints_a_row_a_contestant_and_records_only_where_asked(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["bench", "step", "--model", "small", "--rounds", "2", "--device", "cpu"]
    code, printed, err = call(*typed)
    assert (code, err) == (0, "")
    assert all(f"\n{name} " in printed for name in NAMES)
    assert "channels_last" in printed.splitlines()[0]
    assert list(tmp_path.iterdir()) == []
    code, printed, err = call(*typed, "--out", "new/bench.jsonl")
    assert (code, err) == (0, "")
    (record,) = read_records(tmp_path / "new" / "bench.jsonl")
    assert record["command"] == shlex.join(["ngs", *typed, "--out", "new/bench.jsonl"])
    assert (record["kind"], record["rounds"]) == ("bench-step", 2)
    assert "new/bench.jsonl" in printed


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["--model", "resnet"], ["model must be one of", "'resnet'"]),
        (["--layout", "sideways"], ["layout must be one of channels_last", "'sideways'"]),
        (["--rounds", "0"], ["rounds must be 1 or more, got 0"]),
        (["--rounds", "-3"], ["rounds must be 1 or more, got -3"]),
        (["--rounds", "few"], ["--rounds", "'few'"]),
        (["--device", "mps"], ["device mps is not available"]),
    ],
)
def test_bench_step_refuses_in_one_line(
    typed: list[str], parts: list[str], call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    code, printed, err = call("bench", "step", "--out", str(tmp_path / "new" / "x.jsonl"), *typed)
    assert (code, printed) == (2, "")
    assert is_one_line(err)
    for part in parts:
        assert part in err
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("typed", [["compare"], ["bench", "step"]])
def test_help_describes_every_option(typed: list[str], call: Call) -> None:
    code, printed, err = call(*typed, "--help")
    assert (code, err) == (0, "")
    command: Any = cli.ngs
    for name in typed:
        command = command.commands[name]
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert set(parameter.opts) <= set(printed.replace("/", " ").replace(",", " ").split())


def test_ngs_bench_alone_lists_what_can_be_measured(call: Call) -> None:
    code, printed, err = call("bench")
    assert code == 2
    assert "step" in printed + err


def test_a_checkpoint_that_cannot_be_written_is_said_so_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, config: TrainConfig, content: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(loop, "write_checkpoint", full)
    said: list[str] = []
    configs = grid(BASE, ["ngs"], [0.1], [0])
    run_all(configs, tmp_path / "c.jsonl", command="c", say=said.append, save_every=0.0)
    assert any("the checkpoint cannot be written" in line for line in said)
    assert len(recorded(configs, tmp_path / "c.jsonl")) == 1


def made_up(optimizer: str, lr: float, seed: int, held: float, test: float) -> records.Record:
    """Return what tuning and judging read of a record."""
    config = dataclasses.replace(BASE, optimizer=optimizer, lr=lr, seed=seed, validation=20)
    return {
        "config": dataclasses.asdict(config),
        "commit": "c",
        "epochs": [{"epoch": 1, "validation": {"accuracy": held}, "train_accuracy": 0.0}],
        "test": {"accuracy": test},
    }


def test_other_seeds_judge_the_rates_that_were_chosen() -> None:
    choosing = [
        made_up("sgd", lr, seed, held, held)
        for lr, held in ((0.1, 0.5), (0.3, 0.6), (1.0, 0.4))
        for seed in (0, 1)
    ] + [
        made_up("ngs", lr, s, h, h)
        for lr, h in ((0.1, 0.7), (0.3, 0.8), (1.0, 0.1))
        for s in (0, 1)
    ]
    runs = compare.judges(BASE, choosing, ["sgd", "ngs"], [7, 8])
    assert [(c.optimizer, c.lr, c.seed) for c in runs] == [
        ("sgd", 0.3, 7), ("sgd", 0.3, 8), ("ngs", 0.3, 7), ("ngs", 0.3, 8),
    ]  # fmt: skip
    judging = [made_up(c.optimizer, c.lr, c.seed, 0.5, 0.55 + 0.01 * (c.seed == 8)) for c in runs]
    lines = compare.report(choosing, ["sgd", "ngs"], judging)
    assert any("judged by seeds that chose nothing: 7, 8" in line for line in lines)
    assert lines[-1].split() == [
        "ngs",
        "0.3",
        "2",
        "seeds",
        "+0.00",
        "±",
        "0.00",
        "no",
        "difference",
        "shown",
    ]
    alone = compare.report(choosing, ["sgd", "ngs"])
    assert alone[-1].split()[4] == "+20.00"  # what the seeds that chose would have said


def test_the_command_lets_other_seeds_judge_and_goes_on(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    typed = [
        *("compare", "--optimizers", "sgd,ngs", "--lrs", "0.05,0.1", "--seeds", "0"),
        *("--judge", "5,6", "--side", "8", "--epochs", "1", "--batch-size", "40"),
        *("--train-images", "80", "--precision", "float32", "--out", str(out)),
    ]
    code, printed, err = call(*typed)
    assert (code, err) == (0, "")
    kept = [r["config"] for r in read_records(out)]
    assert [(c["optimizer"], c["seed"]) for c in kept[4:]] == [
        ("sgd", 5), ("sgd", 6), ("ngs", 5), ("ngs", 6),
    ]  # fmt: skip
    assert "judged by seeds that chose nothing: 5, 6" in printed
    again = call(*typed)
    assert len(read_records(out)) == 8
    assert again[1].splitlines()[-4:] == printed.splitlines()[-4:]


@pytest.mark.parametrize(
    ("judge", "line"),
    [("5,5", "judge: seeds must all be different"), ("-1", "judge: seed must lie")],
)
def test_judges_that_cannot_be_are_refused_before_anything_is_run(
    judge: str, line: str, call: Call, tmp_path: Path
) -> None:
    out = tmp_path / "c.jsonl"
    code, _, err = call("compare", "--judge", judge, "--out", str(out))
    assert (code, is_one_line(err)) == (2, True)
    assert line in err
    assert not out.exists()


def test_where_another_process_has_a_run_nothing_is_judged(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    typed = [
        *("compare", "--optimizers", "sgd,ngs", "--lrs", "0.05", "--seeds", "0", "--judge", "5"),
        *("--side", "8", "--epochs", "1", "--batch-size", "40", "--train-images", "80"),
        *("--precision", "float32", "--out", str(out)),
    ]
    base = TrainConfig(
        model="small", side=8, epochs=1, batch_size=40, train_images=80, precision="float32"
    )
    (taken,) = grid(base, ["ngs"], [0.05], [0])
    with alone(checkpoint_path(unfinished(out), taken)):
        code, printed, _ = call(*typed)
    assert code == 0
    assert "not judged yet: 3 runs are left" in printed
    assert "better" not in printed
    assert "worse" not in printed


@pytest.mark.parametrize("what", ["device", "precision"])
def test_runs_of_more_than_one_device_or_precision_are_warned_of(what: str) -> None:
    mixed = [{**made_up("ngs", lr, 0, 0.5, 0.5), what: f"{lr:g}"} for lr in (0.1, 0.2, 0.3)]
    lines = compare.report(mixed, ["ngs"])
    assert f"warning: these runs have more than one {what}: 0.1, 0.2, 0.3" in lines
    same = [{**record, what: "one"} for record in mixed]
    assert not any(what in line for line in compare.report(same, ["ngs"]))


def test_a_seed_that_chooses_may_not_judge(call: Call, tmp_path: Path) -> None:
    out = str(tmp_path / "c.jsonl")
    code, _, err = call("compare", "--seeds", "0,1", "--judge", "1,2", "--out", out)
    assert (code, is_one_line(err)) == (2, True)
    assert "judge must name seeds that choose nothing, got 1 in both lists" in err
    assert not (tmp_path / "c.jsonl").exists()
