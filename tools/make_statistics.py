"""Write the appendix "Execution statistics" from results/executions.jsonl.

tools/execute.py fills that file. The functions are used by tests/test_execute.py too.
"""

import json
from pathlib import Path

from ngs.records import Record, read_records

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/statistics.md"
RECORDS = ROOT / "results/executions.jsonl"


def title(name: str) -> str:
    """Return the heading of a notebook as plain text, by its place in the checkout."""
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    lines = "".join(cells[0]["source"]).splitlines()
    heading = next(line.removeprefix("# ") for line in lines if line.startswith("# "))
    return heading.replace("`", "")  # it stands inside of a role


def row(record: Record) -> str:
    """Return the line of the table for a notebook."""
    page = Path(record["notebook"]).stem
    columns = (
        f"{{doc}}`{title(record['notebook'])} <{page}>`",
        record["cells"],
        f"{record['seconds']:.1f}",
        f"{record['cpu_seconds']:.1f}",
        record["date"][:10],
        f"`{record['commit'][:7]}`",
    )
    return f"| {' | '.join(map(str, columns))} |"


def made_with(records: list[Record]) -> list[str]:
    """Return a paragraph for each set of versions, with the notebooks that ran with it."""
    names = {"python": "Python", "numpy": "NumPy", "torch": "torch", "ngs": "ngs"}
    sets: dict[str, list[str]] = {}
    for record in records:
        said = ", ".join(f"{names[key]} {record['versions'][key]}" for key in names)
        sets.setdefault(said, []).append(title(record["notebook"]).partition(".")[0])
    if len(sets) == 1:
        return [f"Versions, of all: {next(iter(sets))}.", ""]
    return [
        line
        for said, chapters in sets.items()
        for line in (f"Versions, of chapters {', '.join(chapters)}: {said}.", "")
    ]


def page(records: list[Record]) -> str:
    """Return the appendix as a page of the book."""
    longest = max(records, key=lambda record: record["seconds"])
    total = sum(record["seconds"] for record in records)
    cpu = sum(record["cpu_seconds"] for record in records)
    machines = dict.fromkeys(
        f"{record['device']}, threads: {record['threads']}" for record in records
    )
    return "\n".join(
        [
            "(statistics)=",
            "# Execution Statistics",
            "",
            "Each notebook was last run like this, from top to bottom in a fresh kernel, by",
            "`make execute`. Seconds are by the clock, with the start of the kernel; CPU seconds",
            "are what the notebook took of all cores together; other work on the same cores",
            "lengthens the first and not the second.",
            "",
            "| notebook | code cells | seconds | CPU seconds | date | commit |",
            "|---|--:|--:|--:|---|---|",
            *map(row, records),
            "",
            f"In all {total:.0f} seconds, and {cpu:.0f} CPU seconds. The longest took",
            f"{longest['seconds']:.0f}: {title(longest['notebook'])}.",
            "On two cores that are free a notebook takes about a minute at the most; none needs a",
            "graphics card or a network.",
            "",
            *made_with(records),
            f"Run on: {'; '.join(machines)}.",
            "",
            "`make test` runs each notebook again, in another way (nbval), and compares what it",
            "prints with what is stored. The records themselves are in `results/executions.jsonl`.",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(read_records(RECORDS)), encoding="utf-8")
