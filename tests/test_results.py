"""Claims about ``ngs results``: which records it lists, in what order and columns, what it prints
as JSON, and that it ends in one line where there is nothing to list.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ngs import cli
from ngs.records import Record
from ngs.train import results
from ngs.train.records import append_record

Call = Callable[..., tuple[int, str, str]]
HEADINGS = [
    *("date", "dataset", "model", "optimizer", "lr", "epochs", "seed", "valid.", "test"),
    *("seconds", "device", "commit"),
]


@pytest.fixture
def call(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Run the command inside this process and an empty folder, as if typed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ngs", "results", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


def record(day: int = 1, **changes: Any) -> Record:
    """What a run records, as far as the table shows it."""
    config = {
        "dataset": "offline", "model": "small", "optimizer": "ngs", "lr": 0.05, "epochs": 2,
        "seed": 0, **changes.pop("config", {}),
    }  # fmt: skip
    return {
        "kind": "train",
        "config": config,
        "date": f"2026-11-{day:02}T07:28:05+00:00",
        "commit": "0123456789abcdef",
        "modified": False,
        "device": "cpu: AMD EPYC, AVX512",
        "epochs": [{"validation": {"accuracy": 0.2}}, {"validation": {"accuracy": 0.61234}}],
        "test": {"accuracy": 0.6},
        "wall_seconds": 12.345,
        **changes,
    }


def failed(day: int = 1) -> Record:
    found = record(day)
    for name in ("epochs", "test", "wall_seconds"):
        del found[name]
    return {**found, "failed": "the training loss became nan"}


def write(path: Path, *found: Record) -> Path:
    for one in found:
        append_record(path, one)
    return path


def test_a_run_is_one_line_under_its_headings(call: Call) -> None:
    later = record(
        2, config={"lr": 1.0, "seed": 11}, modified=True, wall_seconds=7540.2,
        device="NVIDIA H100 80GB HBM3", epochs=[{}],
    )  # fmt: skip
    code, printed, err = call(str(write(Path("x.jsonl"), later, record(1))))
    assert (code, err) == (0, "")
    heading, first, second = printed.splitlines()
    assert heading.split() == HEADINGS
    assert first.split() == [
        *("2026-11-01", "offline", "small", "ngs", "0.05", "2", "0", "61.23%", "60.00%", "12.3"),
        *("AMD", "EPYC", "0123456"),
    ]
    assert second.split() == [
        *("2026-11-02", "offline", "small", "ngs", "1", "2", "11", "-", "60.00%", "7540"),
        *("H100", "80GB", "HBM3", "0123456*"),
    ]
    for name in ("lr", "epochs", "seed", "valid.", "test", "seconds"):
        end = heading.index(name) + len(name)
        for line in (first, second):
            assert line[end - 1] != " "
            assert line[end : end + 2] == "  "
    for name in ("date", "dataset", "model", "optimizer", "device", "commit"):
        start = heading.index(name)
        for line in (first, second):
            assert line[start] != " "
            assert not line[max(start - 2, 0) : start].strip()


def test_a_run_that_diverged_says_so_and_one_without_a_commit_has_none(call: Call) -> None:
    found = {**failed(), "commit": None, "modified": None}
    code, printed, _ = call(str(write(Path("x.jsonl"), found)))
    assert code == 0
    assert printed.splitlines()[1].split()[7:] == ["-", "diverged", "-", "AMD", "EPYC", "-"]


def test_runs_stand_oldest_first_and_each_once_whatever_file_they_are_in(call: Call) -> None:
    some = write(Path("some.jsonl"), record(3), record(1))
    others = write(Path("others.jsonl"), record(2), record(3))
    code, printed, _ = call(str(some), str(others))
    assert code == 0
    days = [line.split()[0][-2:] for line in printed.splitlines()[1:]]
    assert days == ["01", "02", "03"]


def test_without_files_it_reads_the_usual_ones_that_there_are(call: Call) -> None:
    write(Path("results/b.jsonl"), record(2))
    assert call()[1].count("\n") == 2
    write(Path("results/a.jsonl"), record(3), {"kind": "data", "date": "2026-11-05"})
    write(Path("runs/records.jsonl"), record(1))
    write(Path("runs/other.jsonl"), record(4))
    code, printed, err = call()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [
        f"2026-11-0{day}" for day in (1, 2, 3)
    ]


def test_json_prints_the_records_whole_and_in_the_same_order(call: Call) -> None:
    found = [record(2), failed(1), {"kind": "data", "date": "2026-11-05"}]
    code, printed, err = call("--json", str(write(Path("x.jsonl"), *found)))
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in printed.splitlines()] == [found[1], found[0]]


def test_records_of_another_kind_are_listed_by_their_command(call: Call) -> None:
    bench = {**record(2), "kind": "bench-step", "command": "ngs bench step --rounds 3"}
    path = write(Path("x.jsonl"), record(1), bench)
    code, printed, err = call("--kind", "bench-step", str(path))
    assert (code, err) == (0, "")
    heading, line = printed.splitlines()
    assert heading.split() == ["date", "kind", "device", "commit", "command"]
    assert line.split()[:2] == ["2026-11-02", "bench-step"]
    assert line.endswith("ngs bench step --rounds 3")


def is_one_line(text: str) -> bool:
    return text.startswith("ngs: ") and text.endswith("\n") and text.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ([], ["no runs/records.jsonl", "results/*.jsonl", "ngs train"]),
        (["none.jsonl"], ["none.jsonl is not a file of records"]),
        (["."], [". is not a file of records"]),
        (["notes.txt"], ["notes.txt, line 1, is not JSON"]),
        (["empty.jsonl"], ["no record of kind train in empty.jsonl", "nothing is recorded"]),
        (["data.jsonl", "empty.jsonl"], ["no record of kind train in data.jsonl, empty", "data"]),
        (
            ["--kind", "tests", "data.jsonl"],
            ["no record of kind tests", "the kinds there are data"],
        ),
        (["--sort", "lr"], ["--sort", "ngs results --help"]),
    ],
)
def test_where_there_is_nothing_to_list_it_ends_in_one_line_and_code_2(
    typed: list[str], parts: list[str], call: Call
) -> None:
    Path("notes.txt").write_text("mine\n")
    Path("empty.jsonl").touch()
    write(Path("data.jsonl"), {"kind": "data"})
    code, printed, err = call(*typed)
    assert (code, printed) == (2, "")
    assert is_one_line(err)
    for part in parts:
        assert part in err


def test_a_table_fits_120_columns_and_cuts_the_longest_entries_first() -> None:
    long = record(
        config={"optimizer": "ngs-factor-rescaled", "model": "convnet-narrow", "lr": 0.00158123,
                "seed": 2**64 - 1},
        modified=True,
        device="cpu: Intel(R) Xeon(R) Platinum 8581C CPU @ 2.10GHz, AVX512 AMX",
    )  # fmt: skip
    lines = results.run_table([long, record()])
    assert max(len(line) for line in lines) == 120
    assert "…" in lines[1]
    assert "0123456*" in lines[1]
    assert "…" not in lines[2]
    assert "61.23%  60.00%" in lines[1]
    assert max(map(len, results.any_table([{**long, "command": "ngs " * 100}]))) == 120


def test_records_that_lack_something_are_listed_all_the_same() -> None:
    _, line = results.run_table([{"kind": "train"}])
    assert set(line.split()) == {"-", "diverged"}


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cpu: AMD EPYC, AVX512", "AMD EPYC"),
        ("cpu: AMD EPYC 9B14 96-Core Processor, AVX512 AMX", "AMD EPYC 9B14 96-Core"),
        ("cpu: Intel(R) Xeon(R) CPU @ 2.20GHz, AVX2", "Intel Xeon"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("cpu: arm, DEFAULT", "arm"),
        ("-", "-"),
    ],
)
def test_a_device_is_named_by_what_tells_it_from_others(device: str, name: str) -> None:
    assert results.shortened(device) == name


def test_the_records_of_the_book_fit_the_table() -> None:
    usual = results.default_files(Path(__file__).resolve().parents[1])
    lines = results.run_table(results.collect(usual, "train"))
    assert len(lines) > 100
    assert max(len(line) for line in lines) <= 120


def test_help_describes_every_option(call: Call) -> None:
    code, printed, err = call("--help")
    assert (code, err) == (0, "")
    for part in ("FILES", "--kind", "--json", "runs/records.jsonl", "results/*.jsonl"):
        assert part in printed
