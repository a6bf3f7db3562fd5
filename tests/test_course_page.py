"""Chapter 20 and the appendix of mistakes say what the sets, the tests and the records say."""

import json
import re
import sys
from pathlib import Path

import pytest
from tool import load_tool

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "assignments"))

import grading  # noqa: E402

make_mistakes = load_tool("make_mistakes")
CHAPTER = ROOT / "book/ch20_problem_sets.ipynb"


def records(stem):
    lines = (ROOT / "results" / f"{stem}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text():
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_the_page_of_mistakes_is_up_to_date():
    assert make_mistakes.PAGE.read_text(encoding="utf-8") == make_mistakes.page(), (
        "run `make pages`"
    )


@pytest.mark.parametrize("name", grading.SETS)
def test_the_record_has_every_wrong_submission_with_the_marks_that_are_stated_now(name):
    (record,) = [r for r in records("course") if r["set"] == name]
    rows = {row["submission"]: row for row in record["rows"]}
    assert record["students"] >= 30
    hand = grading.by_hand(name)
    full = {ident: worth for ident, worth in grading.points(name).items() if ident not in hand}
    assert rows["solution"]["given"] == full
    assert rows["release"]["given"] == dict.fromkeys(full, 0.0)
    for wrong in grading.wrongs(name):
        row = rows[wrong.name]
        assert row["given"] == {**full, **wrong.marks}, wrong.name
        assert row["exported"] == sum(row["given"].values())
        assert row["feedback"]


def test_hostile_submissions_harmed_nobody():
    record = records("course_hostile")[-1]
    marks = {row["student"]: row["marks"] for row in record["rows"]}
    assert marks["nothing"] == record["full"]
    assert marks["fork"] is None
    assert marks["memory"] is None
    assert marks["neighbour"] == record["full"]
    assert record["left"] == 0


def test_the_chapter_offers_a_download_of_every_set():
    for name in grading.SETS:
        assert f"[{name}.zip](_static/course/{name}.zip)" in text()
    assert "(_static/course/setup.zip)" in text()


def test_the_chapters_titles_are_those_of_the_sets():
    for name in grading.SETS:
        title = grading.source(name).cells[0].source.splitlines()[0].partition(": ")[2]
        assert f"| {name[2:]} {title[0].upper()}{title[1:]} |" in text()


def test_the_chapter_prints_what_the_first_lines_of_each_set_state():
    # The chapter cannot read them itself: downloaded, it runs without the sets beside it.
    said = r"About (\d+) hours · (\d+) points\*\*, (\d+) by checks and (\d+)"
    stated = [
        [name, *re.search(said, grading.source(name).cells[0].source).groups()]
        for name in grading.SETS
    ]
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    (printed,) = [
        output["text"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "by a reader" in "".join(output.get("text", []))
    ]
    assert [line.split() for line in "".join(printed).splitlines()[1:]] == stated


def test_the_plan_has_twelve_weeks_every_chapter_and_every_set():
    rows = [line.split("|")[1:-1] for line in text().splitlines() if line.startswith("| ")]
    weeks = [row for row in rows if row[0].strip().isdigit() and len(row) == 4]
    assert [int(row[0]) for row in weeks] == list(range(1, 13))
    chapters = " ".join(row[2] for row in weeks)
    assert all(f"{{ref}}`{number} <" in chapters for number in range(1, 20))
    sets = " ".join(row[3] for row in weeks)
    assert all(f"set {n} out" in sets and f"set {n} due" in sets for n in range(1, 7))
