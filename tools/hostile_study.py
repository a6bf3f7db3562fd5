"""What submissions that mean harm can do while they are graded in containers.

``python tools/hostile_study.py --engine podman --out FILE`` grades the solution of problem set 1
with each of these at its top, in the image that the course's Containerfile makes. Chapter 20 reads
the record.
"""

import csv
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import course_study
import grading
import make_course
import nbformat
import torch

from ngs.train.records import append_record, provenance

NAME = "ps1"
HOSTILE = {
    "nothing": ("nothing: the solution", "pass"),
    "fork": ("starts processes without end", "import os\nwhile True:\n    os.fork()"),
    "memory": (
        "fills 8 GiB of memory",
        "hog = bytearray(8 * 2**30)\nfor i in range(0, len(hog), 4096):\n    hog[i] = 1",
    ),
    "loop": ("loops without end", "while True:\n    pass"),
    "stubborn": (
        "loops, and does not let itself be interrupted",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass",
    ),
    "network": (
        "looks for a network beside its own machine's",
        "import socket\n"
        "socket.create_server(('127.0.0.1', 0)).close()  # sockets as such work\n"
        "names = [name for _, name in socket.if_nameindex()]\n"
        "import os\nos._exit(0) if names != ['lo'] else None",
    ),
    "disk": (
        "writes 5 GB to /tmp",
        "with open('/tmp/big', 'wb') as f:\n"
        "    for _ in range(5000):\n        f.write(bytes(10**6))\n"
        "import os\nos._exit(0)",
    ),
    "system": ("writes to /etc", "open('/etc/harm', 'w').write('x')\nimport os\nos._exit(0)"),
    "neighbour": (
        "looks for other submissions and a gradebook with marks",
        "import pathlib\nfound = [str(p) for p in pathlib.Path('/').glob('course*/submitted/*')]\n"
        "import os\nos._exit(0) if len(found) > 1 else None",
    ),
    "exit": ("ends Python", "import os\nos._exit(0)"),
}
"""By account: what it does, and the code at the top of the notebook.

Where it succeeds with a thing that it should not, it ends Python: full marks say that it did not.
"""


@click.command()
@click.option("--engine", type=click.Choice(["podman", "docker"]), default="podman")
@click.option("--minutes", default=4.0, show_default=True, help="After which one is given up.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def main(engine: str, minutes: float, out: Path) -> None:
    """Grade them all, and record what became of each."""
    hand = grading.by_hand(NAME)
    full = sum(worth for ident, worth in grading.points(NAME).items() if ident not in hand)
    with tempfile.TemporaryDirectory() as place:
        course = Path(place) / "course"
        make_course.build_zips(course, (NAME,), course / "students")
        for student, (_, code) in HOSTILE.items():
            notebook = grading.solution(NAME)
            first = next(cell for cell in notebook.cells if cell.cell_type == "code")
            first.source += f"\n{code}"
            folder = course / "submitted" / student / NAME
            folder.mkdir(parents=True)
            nbformat.write(notebook, folder / f"{NAME}.ipynb")
        # Its exit code is 1: some are not graded. What became of each stands in its table.
        subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
            [sys.executable, "grade.py", NAME, "--engine", engine, "--minutes", str(minutes)],
            cwd=course,
        )
        with (course / "grading" / f"{NAME}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["does"] = HOSTILE[row["student"]][0]
            graded = row["outcome"] == "graded"
            marks = course_study.marks_of(course, NAME, row["student"]) if graded else {}
            row["marks"] = sum(marks.values()) if graded else None
        left = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
            [engine, "ps", "--quiet"], capture_output=True, text=True
        ).stdout.split()
    command = f"python {shlex.join(['tools/hostile_study.py', *sys.argv[1:]])}"
    found = {"engine": engine, "minutes": minutes, "full": full, "rows": rows, "left": len(left)}
    said = {"kind": "course-hostile", "command": command}
    append_record(out, {**said, **provenance(torch.device("cpu")), **found})


if __name__ == "__main__":
    main()
