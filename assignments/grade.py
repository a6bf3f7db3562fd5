"""Grade a set: every submission in a container of its own, the marks written outside of it.

nbgrader runs students' code with the rights of whoever grades. So each submission is executed in a
folder made for it alone, which has no other submission and no gradebook with marks, in a container
without a network and with limits on time, memory and processes. What comes out is an executed
notebook; the marks are read off it, and saved, out here, where no student's code runs. It rests on
nbgrader, click and tqdm, and on podman or docker.
"""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import nbformat
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
IMAGE = "ngs-grader"
LARGEST = 50 * 2**20
"""Bytes of a file that is taken out of a container; a notebook is a hundredth of it."""
LIMITS = (
    *("--network", "none", "--memory", "4g", "--memory-swap", "4g", "--pids-limit", "256"),
    *("--cpus", "2", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"),
    *("--tmpfs", "/tmp:rw,size=1g,mode=1777", "--env", "HOME=/tmp"),  # noqa: S108  (in there)
)
"""What a container may use. A fork bomb ends at --pids-limit, a memory hog at --memory."""

SETTINGS = ("NGS_COURSE_PATIENCE", "NGS_COURSE_DATASET")
"""Settings of the checks that are handed to the container; CIFAR-10 of $NGS_DATA is mounted too."""


@dataclass(frozen=True)
class Graded:
    """What became of a submission: ``graded``, or why not, and the seconds it took."""

    student: str
    outcome: str
    seconds: float


@click.command()
@click.argument("name", metavar="SET")
@click.option("--student", "students", multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--engine",
    type=click.Choice(["podman", "docker", "none"]),
    default="podman",
    show_default=True,
    help="What runs the containers; none: no container, for code that you trust.",
)
@click.option(
    "--minutes", default=15.0, show_default=True, help="After which a submission is given up."
)
@click.option("--jobs", default=1, show_default=True, help="Submissions at a time.")
def main(name: str, students: tuple[str, ...], engine: str, minutes: float, jobs: int) -> None:
    """Grade the submissions of SET, such as ps1, that lie in submitted/STUDENT/SET."""
    if not (HERE / "source" / name / f"{name}.ipynb").is_file():
        sets = ", ".join(sorted(p.name for p in (HERE / "source").iterdir() if p.is_dir()))
        raise click.BadParameter(f"{name} is no set of this course: give one of {sets}")
    if not (HERE / "blank.db").is_file():
        raise click.UsageError("blank.db is missing: run 'make course' in the book's checkout")
    if engine != "none" and shutil.which(engine) is None:
        raise click.UsageError(
            f"{engine} is not installed: install it, or give --engine docker, or --engine none "
            "for code that you trust"
        )
    if engine != "none":
        check_image(engine)
    there = sorted(path.parent.name for path in (HERE / "submitted").glob(f"*/{name}"))
    missing = sorted(set(students) - set(there))
    if missing:
        raise click.BadParameter(f"no submission of {name} by {', '.join(missing)} in submitted/")
    chosen = sorted(students) or there
    if not chosen:
        raise click.UsageError(
            f"submitted/ has no {name}: put each notebook at submitted/STUDENT/{name}/{name}.ipynb"
        )
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        work = pool.map(lambda student: execute(name, student, engine, 60 * minutes), chosen)
        results = list(tqdm(work, total=len(chosen), desc=name, unit="submission"))
    done = [result.student for result in results if result.outcome == "graded"]
    save(name, done if students else ["*"] if done else [])
    report(name, results)
    failed = [result for result in results if result.outcome != "graded"]
    for result in failed:
        click.echo(f"{result.student}: {result.outcome}", err=True)
    click.echo(f"{len(results) - len(failed)} of {len(results)} submissions of {name} are graded")
    if failed:
        sys.exit(1)


def check_image(engine: str) -> None:
    """See that containers can be run, and that their image is there.

    Raises:
        click.UsageError: they cannot, or it is not.
    """
    found = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
        [engine, "image", "inspect", IMAGE], capture_output=True, text=True
    )
    if found.returncode:
        said = (found.stderr.strip().splitlines() or ["no word"])[-1]
        raise click.UsageError(
            f"{engine} has no image {IMAGE} ({said}): build it here with "
            f"'{engine} build --tag {IMAGE} .'"
        )


def execute(name: str, student: str, engine: str, seconds: float) -> Graded:
    """Run a submission where it can harm nothing, and keep the notebook that comes out."""
    begin = time.perf_counter()
    problem = unreadable(name, student)
    if problem is not None:
        return Graded(student, problem, 0.0)
    with tempfile.TemporaryDirectory(prefix="ngs-grade-") as place:
        scratch = Path(place) / "course"
        lay_out(scratch, name, student)
        arguments = ["autograde", name, "--student", student]
        problem = run(engine, scratch, arguments, seconds)
        made = scratch / "autograded" / student / name
        if problem is None and not (made / f"{name}.ipynb").is_file():
            problem = "nbgrader could not grade it: is it the notebook of this set?"
        if problem is None:
            problem = keep(made, name, student)
    return Graded(student, problem or "graded", round(time.perf_counter() - begin, 1))


def unreadable(name: str, student: str) -> str | None:
    """Return why a submission has no notebook of this set that can be read, or ``None``."""
    folder = HERE / "submitted" / student / name
    path = folder / f"{name}.ipynb"
    if path.is_symlink() or not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        return f"{name}.ipynb is not there, but {found}: rename the notebook"
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises what JSON, schemas and versions raise
        return f"{name}.ipynb is not a notebook: {' '.join(str(error).split())[:100]}"
    return None


def lay_out(scratch: Path, name: str, student: str) -> None:
    """Make a course that has this set and this submission alone."""
    scratch.mkdir()
    for file in ("nbgrader_config.py", "preprocess.py"):
        shutil.copy(HERE / file, scratch)
    shutil.copy(HERE / "blank.db", scratch / "gradebook.db")
    shutil.copytree(HERE / "source" / name, scratch / "source" / name)
    (scratch / "hidden").mkdir()
    shutil.copy(HERE / "hidden" / f"{name}_hidden.py", scratch / "hidden")
    shutil.copytree(
        HERE / "submitted" / student / name,
        scratch / "submitted" / student / name,
        symlinks=True,  # a link to a file of the grader's stays a link, and leads nowhere in there
    )


def run(engine: str, scratch: Path, arguments: list[str], seconds: float) -> str | None:
    """Run nbgrader in a scratch course; return what went wrong, or ``None``."""
    container = scratch.parent.name
    if engine == "none":
        command = [sys.executable, "-m", "nbgrader", *arguments]
    else:
        user = ["--userns", "keep-id"] if engine == "podman" and os.getuid() else []
        user += ["--user", f"{os.getuid()}:{os.getgid()}"]
        for variable in SETTINGS:
            user += ["--env", variable] if variable in os.environ else []
        if os.environ.get("NGS_DATA"):
            data = Path(os.environ["NGS_DATA"]).resolve()
            user += ["--volume", f"{data}:/data:ro", "--env", "NGS_DATA=/data"]
        mount = ["--volume", f"{scratch}:/course", "--workdir", "/course"]
        command = [engine, "run", "--rm", "--name", container, *LIMITS, *user, *mount, IMAGE]
        command += ["nbgrader", *arguments]
    log = scratch.parent / "log"
    with log.open("w") as file:
        process = subprocess.Popen(  # noqa: S603  (a list of arguments, and no shell)
            command, cwd=scratch, stdout=file, stderr=file, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            if engine != "none":
                subprocess.run([engine, "kill", container], capture_output=True)  # noqa: S603
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"given up after {seconds / 60:g} minutes: it did not come to an end"
    if process.returncode:
        return why(log.read_text(errors="replace"), process.returncode)
    return None


def why(log: str, code: int) -> str:
    """Return, from nbgrader's log, why it could not grade."""
    if "DeadKernelError" in log:
        return "the kernel died: the notebook ends Python, or takes more memory than it may have"
    if code in (137, -9):
        return "it was killed: it took more memory or more processes than it may have"
    if "CellTimeoutError" in log:
        return "a cell ran on after its time, and did not let itself be interrupted"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    word = (telling or lines or ["no word"])[-1]
    return f"nbgrader ended with exit code {code}: {word[:200]}"


def keep(made: Path, name: str, student: str) -> str | None:
    """Copy what is needed of an executed submission to ``executed/``; return what went wrong."""
    goal = HERE / "executed" / student / name
    shutil.rmtree(goal, ignore_errors=True)
    goal.mkdir(parents=True)
    for file in (f"{name}.ipynb", "leaderboard.json"):
        path = made / file
        if path.is_symlink() or (path.exists() and path.stat().st_size > LARGEST):
            return f"{file} is a link or larger than {LARGEST >> 20} MiB: look at it by hand"
        if path.is_file():
            shutil.copy(path, goal)
    handed_in = HERE / "submitted" / student / name / "timestamp.txt"
    if handed_in.is_file() and not handed_in.is_symlink():
        shutil.copy(handed_in, goal)
    return None


def save(name: str, students: list[str]) -> None:
    """Read the marks off the executed notebooks and save them; nothing is executed here.

    Args:
        name: the set.
        students: whose; ``["*"]`` for all, in one go.
    """
    for student in students:
        command = [sys.executable, "-m", "nbgrader", "autograde", name, "--student", student]
        done = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
            [*command, "--force", "--CourseDirectory.submitted_directory=executed"],
            cwd=HERE,
            env={**os.environ, "NGS_COURSE_EXECUTED": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise click.ClickException(f"the marks of {name} could not be saved:\n{done.stderr}")


def report(name: str, results: list[Graded]) -> None:
    """Write what became of each submission to ``grading/SET.csv``."""
    (HERE / "grading").mkdir(exist_ok=True)
    with (HERE / "grading" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "outcome", "seconds"])
        table.writerows([r.student, r.outcome, r.seconds] for r in results)


if __name__ == "__main__":
    main()
