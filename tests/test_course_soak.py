"""The course at length: whole classes through nbgrader, and code that means harm.

`make soak` runs this file; `make test` leaves it out.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tool import load_tool

make_course = load_tool("make_course")
sys.path.insert(0, str(make_course.ASSIGNMENTS))

import grading  # noqa: E402

pytestmark = pytest.mark.soak

TOOLS = make_course.ROOT / "tools"


def has_image() -> bool:
    """Whether containers can be run here, and the course's image is there."""
    if shutil.which("podman") is None:
        return False
    found = subprocess.run(["podman", "image", "inspect", "ngs-grader"], capture_output=True)
    return found.returncode == 0


def record_of(out: Path) -> dict:
    return json.loads(out.read_text(encoding="utf-8").splitlines()[-1])


@pytest.mark.parametrize("name", grading.SETS)
def test_nbgrader_gives_a_class_of_thirty_what_is_stated(name, tmp_path):
    out = tmp_path / "course.jsonl"
    done = subprocess.run(
        [sys.executable, TOOLS / "course_study.py", "--set", name, "--jobs", "2", "--out", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    record = record_of(out)
    assert record["students"] >= 30
    assert all(row["given"] == row["expected"] for row in record["rows"])
    assert all(row["feedback"] for row in record["rows"])


def test_a_loop_that_cannot_be_interrupted_is_given_up_and_the_next_one_graded(tmp_path):
    course = tmp_path / "course"
    make_course.build_zips(course, ("ps1",), course / "students")
    stubborn, right = grading.solution("ps1"), grading.solution("ps1")
    first = next(cell for cell in stubborn.cells if cell.cell_type == "code")
    first.source += (
        "\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
    )
    for student, notebook in {"first": stubborn, "second": right}.items():
        folder = course / "submitted" / student / "ps1"
        folder.mkdir(parents=True)
        grading.nbformat.write(notebook, folder / "ps1.ipynb")
    done = subprocess.run(
        [sys.executable, "grade.py", "ps1", "--engine", "none", "--minutes", "0.5"],
        cwd=course,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "first: given up after 0.5 minutes" in done.stderr
    assert "1 of 2 submissions of ps1 are graded" in done.stdout


@pytest.mark.skipif(
    not has_image(), reason="no podman, or no image ngs-grader (assignments/README)"
)
def test_hostile_submissions_harm_nobody(tmp_path):
    out = tmp_path / "hostile.jsonl"
    done = subprocess.run(
        [sys.executable, TOOLS / "hostile_study.py", "--out", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = record_of(out)
    marks = {row["student"]: row["marks"] for row in record["rows"]}
    assert marks["nothing"] == marks["neighbour"] == record["full"]
    assert marks["fork"] is None
    assert marks["memory"] is None
    assert record["left"] == 0
