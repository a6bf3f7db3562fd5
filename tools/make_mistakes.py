"""Write the appendix "Mistakes that students make" from the wrong submissions and their record.

``assignments/wrong/`` says what is wrong and what it must earn, ``results/course.jsonl`` what
nbgrader gave. ``make pages`` runs it; tests/test_course_page.py sees that the page is up to date.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/mistakes.md"
RECORDS = ROOT / "results/course.jsonl"
sys.path.insert(0, str(ROOT / "assignments"))


def page() -> str:
    """Return the appendix as a page of the book."""
    import grading

    lines = RECORDS.read_text(encoding="utf-8").splitlines()
    given = {record["set"]: record["rows"] for record in map(json.loads, lines)}
    text = [
        "(mistakes)=",
        "# Mistakes That Students Make",
        "",
        "Each line is a submission that is right but for what it says. *Stated* is what it must",
        "earn of the points that are given by checks; *given* is what nbgrader gave it when a",
        "class was graded ({ref}`Chapter 20 <ch-course>`). The submissions themselves lie in",
        "`assignments/wrong/`, with the marks of every cell.",
        "",
    ]
    for name in grading.SETS:
        points, hand = grading.points(name), grading.by_hand(name)
        full = sum(worth for ident, worth in points.items() if ident not in hand)
        marks = {row["submission"]: sum(row["given"].values()) for row in given[name]}
        text += [
            f"## {grading.source(name).cells[0].source.splitlines()[0].removeprefix('# ')}",
            "",
            f"Of {full:g} points; the solution was given {marks['solution']:g}, the untouched "
            f"release {marks['release']:g}.",
            "",
            "| mistake | stated | given |",
            "|---|---|---|",
        ]
        for wrong in grading.wrongs(name):
            stated = full - sum(points[i] - worth for i, worth in wrong.marks.items())
            said = wrong.mistake.replace("|", "\\|").replace("__", "\\_\\_")
            text.append(f"| {said} | {stated:g} | {marks[wrong.name]:g} |")
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
