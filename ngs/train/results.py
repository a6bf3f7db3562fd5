"""What was run, as a table of text: the records of one or more files, oldest first.

It rests on the records beside it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ngs.errors import InputError
from ngs.records import Record, read_records

WIDTH = 120
"""Columns of text that a table fits."""
CUT = ("kind", "dataset", "model", "optimizer", "seed", "device", "command")
"""Columns whose entries may be cut where a line would be too long, the longest of them first."""
LEAST = 8
"""How many characters are left of an entry that is cut."""
NOTHING = "-"
"""Stands for what a record does not have."""


def default_files(folder: Path) -> list[Path]:
    """Return where records usually are: ``runs/records.jsonl`` and all of ``results/``."""
    usual = [folder / "runs" / "records.jsonl", *sorted((folder / "results").glob("*.jsonl"))]
    return [path for path in usual if path.is_file()]


def collect(files: Iterable[Path], kind: str) -> list[Record]:
    """Return the records of one kind, oldest first; one that is in two files once.

    Raises:
        InputError: a file cannot be read; or none has a record of that kind.
    """
    files = list(files)
    found = [record for path in files for record in read_records(path)]
    records: list[Record] = []
    for record in found:
        if record.get("kind") == kind and record not in records:
            records.append(record)
    if not records:
        there = ", ".join(sorted({str(record.get("kind", "none")) for record in found}))
        raise InputError(
            f"no record of kind {kind} in {', '.join(map(str, files))}: "
            + (f"the kinds there are {there}" if there else "nothing is recorded there")
        )
    return sorted(records, key=lambda record: str(record.get("date", "")))


def run_table(records: Iterable[Record]) -> list[str]:
    """Return training runs as lines of text, one a run under a heading."""
    return _aligned(RUN_COLUMNS, records)


def any_table(records: Iterable[Record]) -> list[str]:
    """Return records of any kind as lines of text: when, where and by what command."""
    return _aligned(ANY_COLUMNS, records)


def shortened(device: str) -> str:
    """Return a device's name without what does not tell it from others."""
    name = device.removeprefix("cpu: ").split(",")[0].split(" @")[0]
    return " ".join(re.sub(r"\((R|TM|C)\)|NVIDIA|Processor|\bCPU\b", " ", name, flags=re.I).split())


def _aligned(columns: Sequence["Column"], records: Iterable[Record]) -> list[str]:
    rows = [[heading for heading, *_ in columns]]
    rows += [[show(record) for _, show, _ in columns] for record in records]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    may_be_cut = [i for i, (heading, *_) in enumerate(columns) if heading in CUT]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        longest = max(may_be_cut, key=widths.__getitem__)
        if widths[longest] <= LEAST:
            break
        widths[longest] -= 1
    lines = []
    for row in rows:
        cells = []
        for cell, width, (_, _, side) in zip(row, widths, columns, strict=True):
            fitting = cell if len(cell) <= width else f"{cell[: width - 1]}…"
            cells.append(f"{fitting:{side}{width}}")
        lines.append("  ".join(cells).rstrip())
    return lines


def _plain(name: str) -> Callable[[Record], str]:
    """Return what shows one entry of a record."""
    return lambda record: str(record.get(name, NOTHING))


def _setting(name: str) -> Callable[[Record], str]:
    """Return what shows one setting of a run."""

    def show(record: Record) -> str:
        value = record.get("config", {}).get(name, NOTHING)
        return f"{value:g}" if isinstance(value, float) else str(value)

    return show


def _date(record: Record) -> str:
    return str(record.get("date", NOTHING))[:10]


def _validation(record: Record) -> str:
    rows = record.get("epochs") or [{}]
    return f"{rows[-1]['validation']['accuracy']:.2%}" if "validation" in rows[-1] else NOTHING


def _test(record: Record) -> str:
    if "test" in record:
        return f"{record['test']['accuracy']:.2%}"
    return "stopped" if "guard" in record else "diverged"


def _seconds(record: Record) -> str:
    seconds = record.get("wall_seconds")
    return NOTHING if seconds is None else f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def _device(record: Record) -> str:
    return shortened(str(record.get("device", NOTHING)))


def _commit(record: Record) -> str:
    commit = record.get("commit")
    return NOTHING if commit is None else commit[:7] + ("*" if record.get("modified") else "")


Column = tuple[str, Callable[[Record], str], str]
"""Heading, what is shown, and the side that it stands on."""
RUN_COLUMNS: tuple[Column, ...] = (
    ("date", _date, "<"),
    ("dataset", _setting("dataset"), "<"),
    ("model", _setting("model"), "<"),
    ("optimizer", _setting("optimizer"), "<"),
    ("lr", _setting("lr"), ">"),
    ("epochs", _setting("epochs"), ">"),
    ("seed", _setting("seed"), ">"),
    ("valid.", _validation, ">"),
    ("test", _test, ">"),
    ("seconds", _seconds, ">"),
    ("device", _device, "<"),
    ("commit", _commit, "<"),
)
ANY_COLUMNS: tuple[Column, ...] = (
    ("date", _date, "<"),
    ("kind", _plain("kind"), "<"),
    ("device", _device, "<"),
    ("commit", _commit, "<"),
    ("command", _plain("command"), "<"),
)
