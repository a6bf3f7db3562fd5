"""What the course says of its own submissions: the solution, the release, and every wrong one.

``python tools/course_study.py --out FILE`` makes a class of thirty or more for each problem set,
grades it by the instructor's own commands, compares every mark with what is stated, and records how
long a student took. Chapter 20 reads the records.
"""

import csv
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import make_course
import nbformat
import torch
from nbgrader.api import Gradebook

from ngs.train.records import append_record, provenance

sys.path.insert(0, str(make_course.ASSIGNMENTS))
import grading

CLASS = 30
"""How many students there are at least; the places that are left get the solution again."""


def submissions(name: str, students: int) -> dict[str, tuple[str, dict[str, float], Any]]:
    """Return a class: for each account what is wrong, the marks that are stated, the notebook."""
    hand = grading.by_hand(name)
    full = {ident: worth for ident, worth in grading.points(name).items() if ident not in hand}
    found = {
        "solution": ("nothing: the solution", full, grading.solution(name)),
        "release": ("nothing is written", dict.fromkeys(full, 0.0), grading.release(name)),
    }
    for wrong in grading.wrongs(name):
        marks = {**full, **{ident: float(worth) for ident, worth in wrong.marks.items()}}
        found[wrong.name] = (wrong.mistake, marks, grading.submission(name, wrong))
    while len(found) < students:
        found[f"solution-{len(found)}"] = found["solution"]
    return found


def command(course: Path, *arguments: str) -> tuple[str, float]:
    """Run one of the instructor's commands in a course; return what it said, and its seconds."""
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
        [sys.executable, *arguments],
        cwd=course,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout, time.perf_counter() - begin


def marks_of(course: Path, name: str, student: str) -> dict[str, float]:
    """Return what the gradebook has for a student's checks."""
    hand = grading.by_hand(name)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        notebook = book.find_submission_notebook(name, name, student)
        return {g.name: g.auto_score for g in notebook.grades if g.name not in hand}


def hold_class(course: Path, name: str, students: int, jobs: int) -> dict[str, Any]:
    """Let a class hand in a set, grade it, and return what came of it."""
    there = submissions(name, students)
    for student, (_, _, notebook) in there.items():
        folder = course / "submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    _, grade = command(course, "grade.py", name, "--engine", "none", "--jobs", str(jobs))
    _, feedback = command(course, "-m", "nbgrader", "generate_feedback", name)
    _, export = command(course, "-m", "nbgrader", "export", "--to", "grades.csv")
    with (course / "grading" / f"{name}.csv").open(encoding="utf-8") as file:
        seconds = {row["student"]: float(row["seconds"]) for row in csv.DictReader(file)}
    with (course / "grades.csv").open(encoding="utf-8") as file:
        exported = {
            row["student_id"]: float(row["score"])
            for row in csv.DictReader(file)
            if row["assignment"] == name
        }
    rows = []
    for student, (mistake, expected, _) in there.items():
        given = marks_of(course, name, student)
        rows.append(
            {
                "submission": student,
                "mistake": mistake,
                "expected": expected,
                "given": given,
                "exported": exported[student],
                "feedback": (course / "feedback" / student / name / f"{name}.html").is_file(),
                "seconds": seconds[student],
            }
        )
    return {
        "set": name,
        "students": len(rows),
        "jobs": jobs,
        "grade_s": round(grade, 1),
        "feedback_s": round(feedback, 1),
        "export_s": round(export, 1),
        "median_s": statistics.median(seconds.values()),
        "rows": rows,
    }


def record(kind: str, found: dict[str, Any], out: Path) -> None:
    """Append a record with its provenance."""
    said = {
        "kind": kind,
        "command": f"python {shlex.join(['tools/course_study.py', *sys.argv[1:]])}",
    }
    append_record(out, {**said, **provenance(torch.device("cpu")), **found})


@click.command()
@click.option("--set", "names", multiple=True, help="Only this set; may be repeated.")
@click.option("--students", default=CLASS, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Submissions at a time.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def main(names: tuple[str, ...], students: int, jobs: int, out: Path) -> None:
    """Grade a class for every set; exit code 1 if a mark is not the one that is stated."""
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        course = Path(place) / "course"
        make_course.lay_out(course)
        make_course.make_releases(course, grading.SETS)
        for name in names or grading.SETS:
            found = hold_class(course, name, students, jobs)
            record("course-class", found, out)
            for row in found["rows"]:
                if row["given"] != row["expected"] or row["exported"] != sum(row["given"].values()):
                    wrong += 1
                    click.echo(
                        f"{name} {row['submission']}: {row['given']}, stated {row['expected']}"
                    )
            click.echo(
                f"{name}: {found['students']} students graded in {found['grade_s']:.0f} s, "
                f"{found['median_s']:.1f} s each"
            )
    if wrong:
        raise click.ClickException(f"{wrong} submissions did not earn what is stated")


if __name__ == "__main__":
    main()
