"""Claims about ``make execute``: what it stores, when it stores nothing, what it records; and about
the appendix that shows the records.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tool import load_tool

from ngs.records import read_records

execution = load_tool("execute")
statistics = load_tool("make_statistics")
ROOT = Path(__file__).resolve().parents[1]
CLEAN = {"commit": "0123456789abcdef", "modified": False, "date": "2026-11-29T00:00:00+00:00"}
LOOP = "for i in range(2):\n    print(i, flush=True)"


def write(path: Path, *sources: str) -> Path:
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {},
         "outputs": [], "source": source.splitlines(keepends=True)}
        for number, source in enumerate(sources)
    ]  # fmt: skip
    text = {"cell_type": "markdown", "id": "text", "metadata": {}, "source": ["# Größe ∇"]}
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {
        "cells": [text, *cells],
        "metadata": {**metadata, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def outputs(path: Path) -> list[Any]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is committed, whatever the checkout of this test looks like."""
    real = execution.provenance
    monkeypatch.setattr(execution, "provenance", lambda device: {**real(device), **CLEAN})


def call(tmp_path: Path, *notebooks: Path) -> Result:
    typed = ["--records", str(tmp_path / "records.jsonl"), *map(str, notebooks)]
    return CliRunner().invoke(execution.main, typed)


@pytest.mark.usefixtures("clean")
def test_outputs_are_stored_in_one_piece_and_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    threads = "import os\nos.environ['OMP_NUM_THREADS']"
    path = write(tmp_path / "a.ipynb", LOOP, "1 + 1", threads)
    before = json.loads(path.read_text(encoding="utf-8"))
    done = call(tmp_path, path)
    assert done.exit_code == 0, done.output
    stored = path.read_text(encoding="utf-8")
    after = json.loads(stored)
    assert stored == json.dumps(after, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert [cell.get("execution_count") for cell in after["cells"]] == [None, 1, 2, 3]
    printed, shown, one_thread = outputs(path)
    assert printed["text"] == ["0\n", "1\n"]
    assert shown["data"] == {"text/plain": ["2"]}
    assert one_thread["data"] == {"text/plain": ["'1'"]}
    for cell, old in zip(after["cells"], before["cells"], strict=True):
        assert cell["source"] == old["source"]
        assert cell["metadata"] == {}
    assert after["metadata"] == before["metadata"]
    assert call(tmp_path, path).exit_code == 0
    assert path.read_text(encoding="utf-8") == stored
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ipynb", "records.jsonl"]


@pytest.mark.usefixtures("clean")
def test_a_failure_is_one_line_and_costs_no_other_notebook(tmp_path: Path) -> None:
    wrong = write(tmp_path / "a.ipynb", "x = 1", "print(x)", "raise ValueError('two\\nlines')")
    dead = write(tmp_path / "b.ipynb", "import os\nos._exit(1)")
    fine = write(tmp_path / "d.ipynb", "print('fine')")
    text = tmp_path / "c.ipynb"
    text.write_text("{", encoding="utf-8")
    before = {path: path.read_bytes() for path in (wrong, dead, text)}
    done = call(tmp_path, wrong, dead, text, tmp_path / "none.ipynb", fine)
    assert done.exit_code == 1
    assert done.stderr.count("execute: ") == 4
    assert "Traceback" not in done.stderr
    for line in (
        f"execute: {wrong}: cell [3]: ValueError: two lines\n",
        f"execute: {dead}: cell [1]: the kernel died\n",
        f"execute: {text}: it is no notebook that can be read: NotJSONError\n",
        f"execute: {tmp_path / 'none.ipynb'}: it is no notebook that can be read: FileNotFound",
    ):
        assert line in done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert outputs(fine)[0]["text"] == ["fine\n"]
    assert "1 of 5 notebooks run and stored" in done.stdout
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record["notebook"] == "d.ipynb"


@pytest.mark.usefixtures("clean")
def test_what_was_edited_while_it_ran_is_not_overwritten(tmp_path: Path) -> None:
    edit = (
        "from pathlib import Path\npath = Path('a.ipynb')\n"
        "edited = path.write_text(path.read_text('utf-8').replace('Größe', 'Better'), 'utf-8')"
    )
    path = write(tmp_path / "a.ipynb", edit)
    done = call(tmp_path, path)
    assert done.exit_code == 1
    assert f"execute: {path}: it was edited while it ran" in done.stderr
    assert "Better" in path.read_text(encoding="utf-8")
    assert outputs(path) == []
    assert not (tmp_path / "records.jsonl").exists()


@pytest.mark.usefixtures("clean")
def test_a_record_takes_the_place_of_the_former_one_and_says_where_it_came_from(
    tmp_path: Path,
) -> None:
    work = "import time\nwhile time.process_time() < 0.3:\n    pass"
    path = write(tmp_path / "b.ipynb", work, "1")
    file = tmp_path / "records.jsonl"
    others = [{"notebook": "book/ch01_gradient_descent.ipynb"}, {"notebook": "book/gone.ipynb"}]
    earlier = {"notebook": "b.ipynb", "seconds": 99.0}
    file.write_text("".join(json.dumps(one) + "\n" for one in [earlier, *others]))
    assert call(tmp_path, path).exit_code == 0
    record, other = read_records(file)
    assert other == others[0]
    assert (record["kind"], record["notebook"], record["cells"]) == ("execution", "b.ipynb", 2)
    assert 0.3 < record["seconds"] < 60
    assert 0.3 < record["cpu_seconds"] < 60
    assert {key: record[key] for key in CLEAN} == CLEAN
    assert record["command"] == "python tools/execute.py b.ipynb"
    assert record["device"]
    assert record["threads"] == 1
    assert {"python", "numpy", "torch", "ngs"} <= record["versions"].keys()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"modified": True}, "ngs/ has changes that are not committed"),
        ({"commit": None, "modified": None}, "this is no git checkout"),
    ],
)
def test_what_has_no_commit_is_stored_and_not_recorded(
    state: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "provenance", lambda device: {**CLEAN, **state})
    path = write(tmp_path / "a.ipynb", "print(1)")
    done = call(tmp_path, path)
    assert done.exit_code == 0
    assert f"execute: their seconds were not recorded, since {reason}\n" in done.stdout
    assert outputs(path)[0]["text"] == ["1\n"]
    assert not (tmp_path / "records.jsonl").exists()


def test_a_disk_that_fills_leaves_the_old_notebook_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.ipynb", "print(1)")
    before = path.read_bytes()

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    done = call(tmp_path, path)
    assert done.exit_code == 1
    assert f"execute: {path}: it could not be stored: No space left on device\n" in done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


# The appendix ------------------------------------------------------------------------------------


def test_every_notebook_has_a_record_and_no_other() -> None:
    found = [record["notebook"] for record in read_records(statistics.RECORDS)]
    assert found == sorted(f"book/{path.name}" for path in (ROOT / "book").glob("*.ipynb"))


def test_the_page_is_what_the_records_say() -> None:
    stored = statistics.PAGE.read_text(encoding="utf-8")
    assert stored == statistics.page(read_records(statistics.RECORDS)), "run `make pages`"


def test_no_notebook_takes_more_than_about_a_minute() -> None:
    # By the clock, or where other work held the cores, by what it took of them.
    for record in read_records(statistics.RECORDS):
        assert min(record["seconds"], record["cpu_seconds"]) < 75, record["notebook"]


def test_the_page_has_the_seconds_and_versions_of_each_and_their_sum() -> None:
    one = {"notebook": "book/ch01_gradient_descent.ipynb", "cells": 3, "seconds": 4.04}
    one["cpu_seconds"] = 6.0
    shared = {
        **CLEAN, "device": "cpu: a machine", "threads": 2,
        "versions": {"python": "3.11.7", "numpy": "2.4", "torch": "2.13", "ngs": "0.1.0"},
    }  # fmt: skip
    two = {"notebook": "book/ch02_heavy_ball.ipynb", "cells": 5, "seconds": 31.3}
    two["cpu_seconds"] = 30.2
    text = statistics.page([{**one, **shared}, {**two, **shared}])
    assert "<ch01_gradient_descent>` | 3 | 4.0 | 6.0 | 2026-11-29 | `0123456` |" in text
    assert "Versions, of all: Python 3.11.7, NumPy 2.4, torch 2.13, ngs 0.1.0.\n" in text
    older = {**shared, "versions": {**shared["versions"], "torch": "2.11"}}
    mixed = statistics.page([{**one, **shared}, {**two, **older}])
    assert "Versions, of chapters 1: Python 3.11.7, NumPy 2.4, torch 2.13, ngs" in mixed
    assert "Versions, of chapters 2: Python 3.11.7, NumPy 2.4, torch 2.11, ngs" in mixed
    assert "<ch02_heavy_ball>` | 5 | 31.3 | 30.2 |" in text
    assert "In all 35 seconds, and 36 CPU seconds. The longest took\n31: 2. Heavy Ball" in text
    assert "`" not in statistics.title("book/ch06_numpy.ipynb")
    assert text.count("cpu: a machine, threads: 2") == 1


@pytest.mark.parametrize("outcome", [0, 1])
def test_make_execute_writes_the_appendices_and_passes_a_failure_on(
    outcome: int, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/make_env.sh").write_text("")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\necho "$@" >> asked\ncase "$1" in *execute.py) exit {outcome};; esac\n'
    )
    python.chmod(0o755)
    done = subprocess.run(["make", "execute", "NOTEBOOKS=a.ipynb"], cwd=tmp_path)
    assert (done.returncode != 0) == bool(outcome)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "tools/execute.py a.ipynb"
    for name in ("export_picture", "make_ledger", "make_statistics", "make_results"):
        assert f"tools/{name}.py" in asked
